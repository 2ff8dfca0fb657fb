"""Folders by name, and folders of synthetic images."""

import shutil

import numpy as np
import pytest

from keras_vision import data
from keras_vision.data import known_folders, synthetic, synthetic_folders
from keras_vision.recipe import DataSpec, InputError


def test_a_known_folder_is_found_and_has_its_licence(write_folder, monkeypatch, tmp_path):
    write_folder({"train/daisy": 12, "train/rose": 12, "val/daisy": 3, "val/rose": 3}, name="flower_photos")
    monkeypatch.setenv("KERAS_VISION_DATA", str(tmp_path))
    splits = data.load_splits(DataSpec(data="flower_photos", size=16))
    assert splits.counts() == {"train": [11, 11], "val": [1, 1], "test": [3, 3]}
    assert splits.source.name == "flower_photos"
    assert splits.source.licence.startswith("CC BY")
    assert splits.source.description.startswith("flower_photos, five kinds of flowers. The folder")


@pytest.mark.parametrize("name", known_folders.KNOWN)
def test_without_the_folder_three_alternatives_are_named(name, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KERAS_VISION_DATA", raising=False)
    with pytest.raises(InputError, match="Either download it from https://.*--data synthetic-folders") as caught:
        data.load_splits(DataSpec(data=name))
    assert str(tmp_path / "home" / "datasets" / name) in str(caught.value)


@pytest.fixture
def caches(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return lambda: list((tmp_path / "home").rglob("index.json"))


@pytest.mark.parametrize(("color", "channels"), [("rgb", 3), ("gray", 1)])
@pytest.mark.slow
def test_synthetic_images_are_read_through_folders(caches, color, channels):
    spec = DataSpec(data="synthetic-folders", size=28, color=color, limit=70)
    splits = data.load_splits(spec, seed=3)
    assert splits.class_names == tuple(sorted(synthetic.LESIONS))
    assert splits.image_shape == (28, 28, channels)
    drawn = synthetic.lesions(seed=3).limited(70)
    assert splits.counts() == drawn.counts()
    if channels == 3:
        # JPEGs of quality 95 differ from the originals by a few gray levels.
        order = np.argsort(drawn.test.labels, kind="stable")
        difference = np.abs(np.float32(splits.test.images[:]) - drawn.test.images[order]).mean()
        assert 0 < difference < 4
    data.load_splits(spec, seed=3)
    assert len(caches()) == 1


def test_synthetic_folders_that_cannot_be_written_name_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="synthetic images cannot be written to .* KERAS_HOME"):
        data.load_splits(DataSpec(data="synthetic-folders", size=16))


@pytest.mark.slow
def test_synthetic_folders_that_another_run_finished_first_are_used(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    spec, write = DataSpec(data="synthetic-folders", size=16, limit=60), synthetic_folders._write

    def overtaken(root, splits):
        write(root, splits)
        shutil.copytree(root.parent, tmp_path / "keras_vision" / "drawn-0-16")

    monkeypatch.setattr(synthetic_folders, "_write", overtaken)
    assert len(data.load_splits(spec).train) >= 60
