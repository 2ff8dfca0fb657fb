"""Damaged and hostile .npz files: one sentence, no code, and no memory that the file does not have."""

import contextlib
import os
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_vision import data
from keras_vision.recipe import DataSpec, InputError


def load(path):
    return data.load_splits(DataSpec(data=str(path)))


def with_member(path, name, content):
    """The same file with one member replaced."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, value in (members | {name: content}).items():
            archive.writestr(member, value)
    return path


class Payload:
    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


def test_a_pickle_is_not_run(write_npz, tmp_path):
    objects = np.empty(40, object)
    objects[:] = [Payload(tmp_path / "canary")] * 40
    with pytest.raises(InputError, match="pickled objects, which can run code"):
        load(write_npz(train_images=objects))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776, 28, 28, 3)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (40, 28, 28, 4)}",
        "{'descr': '|V2000000000', 'fortran_order': False, 'shape': (40,)}",
        "{" * 5000,
    ],
)
def test_a_header_that_claims_more_than_the_file_has_is_refused(write_npz, header):
    text = header.encode()
    content = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(40 * 28 * 28 * 3)
    with pytest.raises(InputError, match=r"tiny.npz is damaged: train_images.npy: its "):
        load(with_member(write_npz(), "train_images.npy", content))


def test_a_file_outside_of_the_archive_is_refused(write_npz):
    with pytest.raises(InputError, match="has a member outside of it"):
        load(with_member(write_npz(), "../train_images.npy", b""))


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    for name in ("pipe.npz", "zero.npz"):
        with pytest.raises(InputError, match="not a regular file"):
            load(tmp_path / name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6), cut=st.booleans()
)
def test_damaged_bytes_are_refused_or_read(write_npz, places, cut):
    path = write_npz(shape=(8, 8))
    content = bytearray(path.read_bytes())
    for place, value in places:
        content[place % len(content)] = value
    path.write_bytes(content[: -(places[0][0] % len(content)) or None] if cut else content)
    # Nothing else than an InputError may come out of it.
    with contextlib.suppress(InputError):
        load(path)
