"""Zip archives from elsewhere: refused when they are hostile, before a member is read."""

import contextlib
import io
import stat
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_vision.files import archives
from keras_vision.recipe import InputError


def write(path, *members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def read(path):
    with archives.opened(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_an_ordinary_archive_is_read(tmp_path):
    path = write(tmp_path / "a.zip", ("a", b"1"), ("folder/b", b"2"), ("many", bytes(10**6)))
    assert read(path) == {"a": b"1", "folder/b": b"2", "many": bytes(10**6)}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "a\\..\\x"])
def test_a_name_that_leaves_the_archive_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="has a member outside of it"):
        read(write(tmp_path / "a.zip", (name, b"")))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    link = zipfile.ZipInfo("a")
    link.external_attr = (kind | 0o644) << 16
    with pytest.raises(InputError, match="has a link or a device"):
        read(write(tmp_path / "a.zip", (link, b"/etc/passwd")))


def test_an_archive_that_expands_or_has_too_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "EXPANDS_FREELY", 10**6)
    with pytest.raises(InputError, match="would expand from .* to 2,000,000 bytes"):
        read(write(tmp_path / "a.zip", ("a", bytes(2 * 10**6))))
    assert (
        len(read(write(tmp_path / "a.zip", ("a", bytes(2 * 10**6)), compression=zipfile.ZIP_STORED))["a"]) == 2 * 10**6
    )
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    with pytest.raises(InputError, match="has 4 members"):
        read(write(tmp_path / "a.zip", *((str(number), b"") for number in range(4))))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="two members of the same name"):
        read(write(tmp_path / "a.zip", ("a", b"1"), ("a", b"2")))


@settings(max_examples=200, deadline=None)
@given(
    places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5),
    lost=st.sampled_from([0, 0, 10, 200]),
)
def test_a_damaged_archive_is_one_sentence(tmp_path_factory, places, lost):
    path = write(tmp_path_factory.getbasetemp() / "damaged.zip", ("a", b"1" * 50), ("b", bytes(50)))
    content = bytearray(path.read_bytes())
    for place, value in places:
        content[place % len(content)] = value
    path.write_bytes(content[: len(content) - lost])
    # Nothing else than an InputError may come out of it.
    with contextlib.suppress(InputError):
        read(path)


def header(text, version=1):
    content = text.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + len(content).to_bytes(2 if version == 1 else 4, "little") + content


def array(text, size, version=1):
    content = header(text, version) + bytes(size)
    return archives.array_header(io.BytesIO(content), len(content))


def described(shape, kind="'|u1'"):
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}"


def test_a_header_that_agrees_with_its_size_is_read():
    assert array(described((2, 3)), 6) == ((2, 3), np.uint8)
    assert array(described((2, 3), "'<f4'"), 24, version=2) == ((2, 3), np.float32)
    assert array(described(()), 1) == ((), np.uint8)


@pytest.mark.parametrize(
    "text",
    [
        described((10**12,)),
        described((2**40, 2**40)),
        described((0, 2**60)),
        described((-1,)),
        described((2, 3), "'<f8'"),
        described((2, 3), "'junk'"),
        described((2, 3), "[('a', '<f4', (100000, 100000))]"),
        "(" * 5000,
        "[" * 9000,
        "__import__('os')",
        "'" + "x" * 9000,
        "(\n",
        "",
    ],
)
def test_a_header_that_claims_something_else_is_refused_without_the_memory(text):
    with pytest.raises(ValueError, match="bytes and there are|its shape|no description"):
        array(text, 6)


def test_another_version_of_the_format_is_refused():
    with pytest.raises(ValueError, match="version"):
        array(described((2, 3)), 6, version=9)
