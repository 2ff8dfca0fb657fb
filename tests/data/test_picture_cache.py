"""The cache of decoded images: its key, and what a second run reads."""

import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest

from keras_vision import data
from keras_vision.data import folders, picture_cache, shared_decoding
from keras_vision.data.rows import Rows
from keras_vision.data.splits import Split
from keras_vision.files import image_files
from keras_vision.recipe import DataSpec, InputError


def load(root, **knobs):
    return data.load_splits(DataSpec(data=str(root), **{"size": 8, **knobs}))


@pytest.fixture
def root(write_folder):
    return write_folder({"a": 12, "b": 12})


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are read from now on."""
    read, names = image_files.read_bytes, []
    monkeypatch.setattr(image_files, "read_bytes", lambda path: names.append(path.name) or read(path))
    return names


def test_a_second_run_reads_no_file_and_returns_the_same(root, decoded):
    first = load(root)
    assert len(decoded) == 24
    second = load(root)
    assert len(decoded) == 24
    for one, other in zip(first.named().values(), second.named().values(), strict=True):
        np.testing.assert_array_equal(one.images[:], other.images[:])
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize("knobs", [{"size": 9}, {"color": "gray"}, {"resize": "pad"}, {"intensity_range": (0, 9)}])
def test_other_pixels_are_another_cache(knobs, root, decoded):
    load(root)
    load(root, **knobs)
    assert len(decoded) == 48


def test_a_decoder_that_is_installed_later_is_another_cache(root, decoded, monkeypatch):
    load(root)
    monkeypatch.setattr(image_files, "decoders", lambda: ["a new one"])
    load(root)
    assert len(decoded) == 48


def test_the_splits_and_the_seed_need_no_other_cache(root, decoded):
    load(root)
    data.load_splits(DataSpec(data=str(root), size=8, val_share=0.3, test_share=0.4), seed=7)
    assert len(decoded) == 24


def test_a_file_that_could_not_be_read_is_tried_again(write_folder, monkeypatch):
    root, read = write_folder({"a": 40, "b": 40}), image_files.read_bytes

    def locked(path):
        if path.name == "003.png":
            raise image_files.NotReadError("permission denied")
        return read(path)

    (root / "a" / "004.png").write_bytes(b"not an image")
    monkeypatch.setattr(image_files, "read_bytes", locked)
    monkeypatch.setattr(folders, "MOST_SET_ASIDE", 0.5)
    assert set(load(root).report.set_aside) == {"a/003.png", "b/003.png", "a/004.png"}
    monkeypatch.setattr(image_files, "read_bytes", read)
    assert set(load(root).report.set_aside) == {"a/004.png"}
    assert len(list(picture_cache.home().iterdir())) == 1  # And nothing of the first is left.
    monkeypatch.setattr(picture_cache, "_make", None)
    load(root)


@pytest.mark.parametrize("damage", ["index.json", "images.bin", "cut", "no list"])
def test_a_damaged_cache_is_written_again(damage, root, decoded):
    first = load(root).train.images[:]
    (cache,) = picture_cache.home().iterdir()
    if damage == "cut":
        (cache / "images.bin").write_bytes((cache / "images.bin").read_bytes()[:100])
    elif damage == "no list":
        (cache / "index.json").write_text("{}")
    else:
        (cache / damage).unlink()
    np.testing.assert_array_equal(load(root).train.images[:], first)
    assert len(decoded) == 48


def test_a_cache_has_the_permissions_of_the_umask(root):
    load(root)
    (cache,) = picture_cache.home().iterdir()
    before = os.umask(0)
    os.umask(before)
    assert cache.stat().st_mode & 0o777 == 0o777 & ~before


@pytest.mark.parametrize("change", ["touched", "grown", "added", "removed"])
def test_a_changed_file_is_another_cache(change, root, decoded):
    load(root)
    file = root / "a" / "003.png"
    if change == "touched":
        os.utime(file, ns=(1, 1))
    if change == "grown":
        before = file.stat()
        file.write_bytes(file.read_bytes() + b" ")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    if change == "added":
        (root / "a" / "new.png").write_bytes(file.read_bytes())
    if change == "removed":
        file.unlink()
    load(root)
    assert len(decoded) == 48 + {"added": 1, "removed": -1}.get(change, 0)


def interrupt_decoding(root, monkeypatch, after):
    """Leaves a decoding after some files; the partial cache."""
    progress = shared_decoding._progress

    def interrupt(done, *arguments):
        if done == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shared_decoding, "_progress", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(root)
    assert shared_decoding._progress is progress
    (partial,) = picture_cache.home().iterdir()
    assert partial.name.startswith(".partial-")
    return partial


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (None, 12),
        ("images.bin", 24),  # Lost in a power cut, say.
        ("journal.jsonl", 20),  # Its last line was not written completely.
    ],
)
def test_an_interrupted_decoding_goes_on(damage, again, root, decoded, monkeypatch, capsys):
    monkeypatch.setattr(shared_decoding, "CHUNK", 4)
    whole = interrupt_decoding(root, monkeypatch, 12) / "whole"
    if damage == "images.bin":
        (whole / damage).write_bytes(b"\0" * (whole / damage).stat().st_size)
    if damage == "journal.jsonl":
        lines = (whole / damage).read_bytes().splitlines(keepends=True)
        (whole / damage).write_bytes(b"".join(lines[:1]) + lines[1][:-9])
    decoded.clear()
    first = load(root)
    assert len(decoded) == again
    assert ("Going on after" in capsys.readouterr().out) == (again < 24)
    (folder,) = picture_cache.home().iterdir()
    assert {path.name for path in folder.iterdir()} == {"images.bin", "prints.bin", "index.json"}
    index = (folder / "index.json").read_text()
    shutil.rmtree(folder)
    second = load(root)
    assert (folder / "index.json").read_text() == index
    np.testing.assert_array_equal(first.train.images[:], second.train.images[:])


def test_a_cache_that_lacks_only_its_name_is_not_decoded_again(root, decoded, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shared_decoding, "put_in_place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(root)
    assert load(root).counts()["train"] == [9, 9]
    assert len(decoded) == 24


def test_a_cache_that_another_run_has_just_finished_is_used(root, decoded, monkeypatch):
    load(root)
    opened = picture_cache._open
    answers = iter([None])
    monkeypatch.setattr(picture_cache, "_open", lambda *arguments: next(answers, opened(*arguments)))
    load(root)
    assert len(decoded) == 24
    assert len(list(picture_cache.home().iterdir())) == 1


def test_a_cache_that_cannot_be_written_names_the_remedy(root, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be written to .*Set KERAS_HOME to a folder with enough space"):
        load(root)


def test_the_index_describes_the_cache(root):
    load(root)
    (cache,) = picture_cache.home().iterdir()
    index = json.loads((cache / "index.json").read_text())
    assert index["names"][:2] == ["a/000.png", "a/001.png"]
    assert (cache / "images.bin").stat().st_size == 24 * 8 * 8 * 3


def test_rows_behave_like_an_array_and_refuse_a_full_copy():
    stored = np.arange(5 * 2 * 2).reshape(5, 2, 2, 1).astype(np.uint8)
    rows = Rows(stored, [4, 0, 2])
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == ((3, 2, 2, 1), np.uint8, 4, 3)
    np.testing.assert_array_equal(rows[1], stored[0])
    np.testing.assert_array_equal(rows[np.array([2, 0])], stored[[2, 4]])
    np.testing.assert_array_equal(rows[::2], stored[[4, 2]])
    np.testing.assert_array_equal(rows.select([1, 2])[:], stored[[0, 2]])
    np.testing.assert_array_equal(list(rows), stored[[4, 0, 2]])
    with pytest.raises(TypeError, match="a batch at a time"):
        np.asarray(rows)


def test_batches_need_memory_for_one_batch_only(tmp_path):
    """An epoch over 64 MB on disk, counted by what Python allocates."""
    stored = np.memmap(tmp_path / "images.bin", np.uint8, "w+", shape=(2000, 104, 104, 3))
    split = Split(Rows(stored, np.arange(2000)[::-1]), np.zeros(2000, np.int64))
    batches = data.Batches(split, 2, 16, shuffle=True)
    tracemalloc.start()
    for number in range(len(batches)):
        assert batches[number][0].shape == (16, 104, 104, 3)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert highest < 8e6
