"""The child process that reads a file first: its crash, its endless loop and its hunger are sentences here."""

import sys

import pytest

from keras_vision.files import trial

CHILD = """
import os, sys
from keras_vision.files import trial

def read(content, mode):
    if content == b"crash":
        os.abort()
    if content == b"loop":
        while True:
            pass
    if content == b"error":
        raise ValueError("it is not so\\nmore")
    if content == b"hungry":
        bytearray(2**33)
    if content == b"noise":
        os.write(1, b"noise on standard output")
    return 1000 * mode + len(content)

if __name__ == "__main__":
    sys.exit(trial.serve(read))
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    (tmp_path / "trial_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    child = trial.Trial("trial_child")
    yield child
    child.close()


def test_the_child_answers_with_its_function_and_stays(child):
    assert child.result(b"") == 0
    process = child._process.pid
    assert child.result(b"12345", 7) == 7005
    assert child.result(b"noise") == 5
    large = bytes(2**22)
    assert child.result(large) == len(large)
    assert child._process.pid == process


def test_an_exception_in_the_child_is_its_first_line(child):
    with pytest.raises(trial.RaisedError, match="^it is not so$"):
        child.result(b"error")
    assert child.result(b"good") == 4


def test_a_crash_is_an_error_here_and_the_next_file_is_read(child):
    for content in (b"crash", b"crash", b"good", b"crash", b"good"):
        if content == b"good":
            assert child.result(content) == 4
        else:
            with pytest.raises(trial.TrialError, match="crashes or needs too much memory"):
                child.result(content)


def test_a_child_that_an_earlier_file_has_damaged_is_replaced(child):
    assert child.result(b"good") == 4
    child._process.kill()
    child._process.wait()
    assert child.result(b"good") == 4


def test_an_endless_loop_is_ended(child, monkeypatch):
    monkeypatch.setattr(trial, "SECONDS", 0.5)
    with pytest.raises(trial.TrialError, match="takes more than 0.5 seconds"):
        child.result(b"loop")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory like this")
def test_memory_is_limited(child):
    with pytest.raises(trial.TrialError, match="MemoryError"):
        child.result(b"hungry")
