"""State files: whole or refused, whatever moment the process dies at."""

import subprocess
import sys

import numpy as np
import pytest

from keras_vision.files import state_file

FACTS = {"epoch": 3, "best": float("inf"), "names": ["a", None]}


def write(path, value=1.0, **keywords):
    state_file.write(path, {"weights": np.full(4, value), "step": np.array(7)}, FACTS, **keywords)


def value_of(path):
    return state_file.read(path)[0]["weights"][0]


def test_what_was_written_is_read(tmp_path):
    write(tmp_path / "a")
    arrays, facts = state_file.read(tmp_path / "a")
    assert facts == FACTS
    assert arrays.keys() == {"weights", "step"}
    np.testing.assert_array_equal(arrays["weights"], np.ones(4))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_file_before_is_kept_on_request(tmp_path):
    write(tmp_path / "a", 1.0, before=tmp_path / "b")
    assert not (tmp_path / "b").exists()
    write(tmp_path / "a", 2.0, before=tmp_path / "b")
    assert (value_of(tmp_path / "a"), value_of(tmp_path / "b")) == (2.0, 1.0)


def test_any_changed_byte_and_any_cut_is_noticed(tmp_path):
    write(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    damaged = [content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] for place in range(len(content))]
    for other in [*damaged, *(content[:length] for length in range(0, len(content), 7)), content + b"\0"]:
        (tmp_path / "a").write_bytes(other)
        with pytest.raises(state_file.DamagedError):
            state_file.read(tmp_path / "a")


def test_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        state_file.write(tmp_path / "a", {"code": np.array([print], object)}, {})


DYING = """
import os, signal, sys
import numpy as np
from pathlib import Path
from keras_vision.files import state_file

folder, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
state_file.write(folder / "newest", {"weights": np.full(4, 1.0)}, {}, before=folder / "before")
state_file.write(folder / "newest", {"weights": np.full(4, 2.0)}, {}, before=folder / "before")
original = getattr(os, name)

def dying(*arguments):
    global count
    count -= 1
    if not count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

setattr(os, name, dying)
state_file.write(folder / "newest", {"weights": np.full(4, 3.0)}, {}, before=folder / "before")
"""


@pytest.mark.parametrize(
    ("name", "count", "newest", "before"),
    [
        ("fsync", 1, 2.0, 1.0),  # The temporary file is written, perhaps not on the disk.
        ("replace", 1, 2.0, 1.0),  # It is on the disk.
        ("replace", 2, None, 2.0),  # Between the two renamings.
        ("fsync", 2, 3.0, 2.0),  # Both are done.
    ],
)
def test_a_process_that_dies_while_it_writes_leaves_a_whole_file(name, count, newest, before, tmp_path):
    died = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), name, str(count)], check=False)
    assert died.returncode == -9
    assert value_of(tmp_path / "before") == before
    if newest is None:
        assert not (tmp_path / "newest").exists()
    else:
        assert value_of(tmp_path / "newest") == newest


def test_a_full_disk_leaves_the_file_and_no_rest(tmp_path, monkeypatch):
    write(tmp_path / "a")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "a", 2.0)
    assert value_of(tmp_path / "a") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
