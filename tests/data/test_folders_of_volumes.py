"""Folders and tables of NIfTI volumes, as they become splits and run through the track of volumes."""

import csv
import json
import shutil
import sys

import cv2
import numpy as np
import pytest

from keras_vision import data, fracture3d
from keras_vision.recipe import DataSpec, InputError


@pytest.fixture
def nibabel():
    return pytest.importorskip("nibabel")


@pytest.fixture
def write_volumes(tmp_path, monkeypatch, nibabel):
    """Writes volumes into `scans/CLASS/NUMBER.nii.gz`, counts by folder: balls, smaller in every second class."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))

    def write(counts, suffix=".nii.gz"):
        root = tmp_path / "scans"
        distance = np.linalg.norm(np.indices((20, 18, 16)) - 8.5, axis=0)
        for number, (inside, count) in enumerate(counts.items()):
            (root / inside).mkdir(parents=True)
            noise = np.random.default_rng(number)
            for volume in range(count):
                ball = 900 * (distance < (4 if number % 2 else 7)) + noise.normal(0, 50, distance.shape)
                image = nibabel.Nifti1Image(ball.astype(np.int16), np.diag([1.0, 1.0, 1.2, 1.0]))
                nibabel.save(image, root / inside / f"{volume:03}{suffix}")
        return root

    return write


def load(root, **knobs):
    return data.load_splits(DataSpec(data=str(root), **{"size": 12, **knobs}))


def test_a_folder_of_volumes_becomes_splits_of_volumes(write_volumes):
    splits = load(write_volumes({"large": 20, "small": 20}))
    assert splits.image_shape == (12, 12, 12, 1)
    assert splits.class_names == ("large", "small")
    assert sum(map(len, splits.named().values())) == 40
    volumes = splits.train.images[np.arange(len(splits.train))]
    assert volumes.dtype == np.uint8
    bright = (volumes > 128).mean((1, 2, 3, 4))
    assert bright[splits.train.labels == 0].min() > 2 * bright[splits.train.labels == 1].max()
    assert "cropped to 12 x 12 x 12, gray" in splits.source.description
    summary = splits.report.summary()
    assert "Volumes are turned to RAS" in summary
    assert "Each volume's least value is black and its largest white" in summary
    assert splits.report.leaks is None


def test_an_intensity_range_is_the_scale_of_all_volumes(write_volumes):
    root = write_volumes({"a": 6, "b": 6}, ".nii")
    splits = load(root, intensity_range=(0.0, 9000.0), color="gray")
    assert splits.train.images[0].max() < 35
    assert "least value is black" not in splits.report.summary()
    assert "0 to 9,000 are 0 to 255 in the images" in splits.source.description


def test_a_table_and_groups_go_with_volumes(write_volumes):
    root = write_volumes({"all": 24})
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[f"{number:03}", "ab"[number % 2], f"P{number // 4}"] for number in range(24)]
        csv.writer(file).writerows([["scan", "label", "patient"], *rows])
    splits = load(root / "labels.csv", group_by="patient")
    assert splits.image_shape == (12, 12, 12, 1)
    assert "6 groups of images, none of them in two splits" in splits.report.summary()
    assert len(load(root / "labels.csv", limit=4).train) == 4


def test_dirt_among_volumes_is_set_aside_by_name(write_volumes, nibabel):
    root = write_volumes({"train/a": 60, "train/b": 60, "test/a": 4, "test/b": 4})
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 9), np.int16), np.eye(4)), root / "train" / "a" / "time.nii")
    (root / "train" / "a" / "cut.nii.gz").write_bytes((root / "train" / "a" / "000.nii.gz").read_bytes()[:-30])
    cv2.imwrite(str(root / "train" / "b" / "slice.png"), np.zeros((8, 8), np.uint8))
    shutil.copy(root / "train" / "a" / "001.nii.gz", root / "test" / "a" / "again.nii.gz")
    report = load(root).report
    assert report.set_aside == {
        "train/a/time.nii": "a NIfTI file of 4 x 4 x 4 x 9 values, not of a single volume; save one volume a file",
        "train/a/cut.nii.gz": "a NIfTI file, truncated or damaged",
        "train/b/slice.png": "not a NIfTI file with its values inside (.nii or .nii.gz)",
    }
    assert (
        "1 files are in two splits, byte for byte, such as train/a/001.nii.gz (train) and test/a/again.nii.gz (test)."
        in report.notes
    )


def test_near_duplicates_of_volumes_cannot_be_looked_for(write_volumes):
    with pytest.raises(InputError, match="--audit-leaks and --drop-leaks compare images"):
        load(write_volumes({"a": 6, "b": 6}), audit_leaks=True)


def test_a_folder_of_volumes_without_nibabel_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for name in "ab":
        (tmp_path / "scans" / name).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "scans" / name / f"{number}.nii.gz").write_bytes(b"\x1f\x8b" + bytes([number]))
    flags = ["--data", str(tmp_path / "scans"), "--out", str(tmp_path / "run")]
    assert fracture3d.main(flags) == 2
    error = capsys.readouterr().err
    assert "a NIfTI file; pip install 'keras_vision[nifti]' reads it" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_folder_of_volumes_goes_the_whole_way(write_volumes, tmp_path):
    root, out = write_volumes({"large": 12, "small": 12}), tmp_path / "run"
    flags = ["--data", str(root), "--size", "16", "--smoke", "--epochs", "1", "--tflite"]
    assert fracture3d.main([*flags, "--width", "2", "--out", str(out)]) == 0
    found = json.loads((out / "report.json").read_text("utf-8"))
    assert any("Volumes are turned to RAS" in note for note in found["data_report"]["notes"])
    assert (out / "tflite" / "int8.tflite").is_file()
    assert "Volumes are turned to RAS" in (out / "report.html").read_text("utf-8")
