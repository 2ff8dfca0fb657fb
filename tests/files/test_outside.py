"""Files from elsewhere: only regular ones are read, only so much of them, and nothing waits."""

import os

import pytest

from keras_vision.files import outside
from keras_vision.recipe import InputError


@pytest.fixture
def odd_files(tmp_path):
    """What can be in place of a file, with what is said of it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_bytes(b"")
    for name, target in (("nowhere", "none"), ("loop", "loop"), ("zero", "/dev/zero"), ("to pipe", "pipe")):
        (tmp_path / name).symlink_to(target)
    return {
        **dict.fromkeys(("pipe", "zero", "to pipe", "folder"), "regular file|is a directory"),
        "nowhere": "no such file",
        "none": "no such file",
        "loop": "symbolic links",
        "a\0b": "null",
    }


def test_links_pipes_devices_and_folders_are_one_sentence(odd_files, tmp_path):
    for name, message in odd_files.items():
        for read in (outside.read_bytes, outside.read_text, outside.read_json, outside.require_regular):
            with pytest.raises(InputError, match=f"^Cannot read .*({message})"):
                read(tmp_path / name)


def test_a_link_to_a_file_is_the_file(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert outside.read_bytes(tmp_path / "link") == b"content"
    outside.require_regular(tmp_path / "link")


def test_no_more_than_the_limit_is_read_whatever_size_a_file_states(tmp_path):
    (tmp_path / "file").write_bytes(b"12345678")
    assert outside.read_bytes(tmp_path / "file", 8) == b"12345678"
    with pytest.raises(InputError, match="larger than"):
        outside.read_bytes(tmp_path / "file", 7)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="larger than 2048 MB"):
        outside.read_bytes(tmp_path / "sparse")
    if os.path.exists("/proc/self/maps"):
        assert len(outside.read_bytes("/proc/self/maps")) > os.stat("/proc/self/maps").st_size
        with pytest.raises(InputError, match="larger than"):
            outside.read_bytes("/proc/self/maps", 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
        ("9" * 5000, "is damaged"),
        ("{", "is damaged"),
        ("\0", "is damaged"),
    ],
)
def test_json_that_is_deep_or_damaged_is_one_sentence(tmp_path, text, message):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        outside.read_json(tmp_path / "card.json")
    assert len(str(caught.value)) < 500


def test_text_that_is_not_utf_8_is_refused_or_replaced(tmp_path):
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfant\n\xff\n")
    assert outside.read_text(tmp_path / "labels.txt", "replace") == "ant\n\N{REPLACEMENT CHARACTER}\n"
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        outside.read_text(tmp_path / "labels.txt")
