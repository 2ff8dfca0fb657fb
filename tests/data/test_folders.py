"""Image folders: layouts, splits, and files that are not images."""

import dataclasses
import os
import sys

import cv2
import numpy as np
import pytest

from keras_vision import data
from keras_vision.data.rows import Rows
from keras_vision.files import image_files
from keras_vision.recipe import DataSpec, InputError


def load(root, seed=0, **knobs):
    return data.load_splits(DataSpec(data=str(root), **{"size": 8, **knobs}), seed)


def test_class_folders_are_split_by_class_and_seed(write_folder):
    root = write_folder({"not fractured": 40, "fractured": 20})
    splits = load(root)
    assert splits.class_names == ("fractured", "not fractured")
    # A fifth of each class, then a tenth of what is left of each.
    assert splits.counts() == {"train": [14, 29], "val": [2, 3], "test": [4, 8]}
    assert splits.source.name == "pictures"
    assert "without splits" in splits.source.description
    again, other = load(root), load(root, seed=1)
    np.testing.assert_array_equal(again.report.names["test"], splits.report.names["test"])
    assert set(other.report.names["test"]) != set(splits.report.names["test"])
    names = [name for split in splits.report.names.values() for name in split]
    assert len(set(names)) == 60


def test_pixels_and_labels_belong_together(write_folder):
    root = write_folder({"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2, "test/a": 2, "test/b": 2}, side=8)
    splits = load(root)
    for split, content in splits.named().items():
        assert isinstance(content.images, Rows)
        for image, label, name in zip(content.images, content.labels, splits.report.names[split], strict=True):
            np.testing.assert_array_equal(image, cv2.imread(str(root / name), cv2.IMREAD_COLOR_RGB))
            assert name.startswith(f"{split}/{splits.class_names[label]}/")


def test_other_names_of_splits_are_known(write_folder):
    root = write_folder(
        {"Training/a/x": 2, "Training/b": 2, "validation/a": 1, "validation/b": 1, "testing/a/deep/er": 1}
    )
    assert load(root).counts() == {"train": [2, 2], "val": [1, 1], "test": [1, 0]}


def test_an_existing_val_is_the_test_split_if_there_is_no_test(write_folder):
    splits = load(write_folder({"train/a": 10, "train/b": 10, "val/a": 3, "val/b": 2}), val_share=0.2)
    assert splits.counts() == {"train": [8, 8], "val": [2, 2], "test": [3, 2]}
    assert "its val is the test split here; val: 20 % of each class of train, chosen with seed 0" in (
        splits.source.description
    )


def test_a_validation_split_is_taken_from_train_if_there_is_a_test(write_folder):
    splits = load(write_folder({"train/a": 10, "train/b": 10, "test/a": 3, "test/b": 2}))
    assert splits.counts() == {"train": [9, 9], "val": [1, 1], "test": [3, 2]}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"test/a": 1, "val/a": 1}, "but no train folder."),
        ({"train/a": 1, "training/a": 1}, "a split twice: train, training"),
        ({"train": 3}, r"one folder with images, train \(3 images\); .* at least 2 classes"),
        ({"a": 3}, "at least 2 classes"),
        ({"a": 3, "b": 0}, "shows 'b'"),
        ({".hidden": 3}, "has no images and no folders"),
    ],
)
def test_other_layouts_are_refused(counts, message, write_folder):
    with pytest.raises(InputError, match=message):
        load(write_folder(counts))


def test_files_that_are_not_images_are_set_aside_with_the_reason(write_folder):
    root = write_folder({"a": 40, "b": 40})
    whole = (root / "a" / "000.png").read_bytes()
    (root / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "b" / "empty.jpg").touch()
    (root / "b" / "notes.txt").write_text("fractured, says the radiologist")
    (root / "b" / "really.jpg").write_bytes(whole)
    (root / "b" / "gone.png").symlink_to(root / "nowhere")
    for hidden in (".DS_Store", "Thumbs.db", "._000.png"):
        (root / "a" / hidden).write_bytes(b"junk")
    (root / "a" / "up").symlink_to(root / "a", target_is_directory=True)
    (root / "a" / "self").symlink_to(root / "a" / "self")
    report = load(root, audit_leaks=False).report
    assert report.set_aside == {
        "a/cut.png": "a PNG file, truncated or damaged",
        "a/self": "too many levels of symbolic links",
        "b/empty.jpg": "empty file",
        "b/gone.png": "no such file or directory",
        "b/notes.txt": "not an image format that OpenCV reads",
    }
    assert report.remarks["b/really.jpg"] == "its content is PNG"


def test_strict_stops_at_the_first_now_and_from_the_cache(write_folder):
    root = write_folder({"a": 30, "b": 30})
    (root / "b" / "bad.png").write_bytes(b"\x89PNG")
    for _ in range(2):
        with pytest.raises(InputError, match="--strict: b/bad.png: a PNG file, truncated or damaged. Repair"):
            load(root, strict=True)
        load(root)


def test_more_than_a_twentieth_set_aside_is_an_error_but_notes_do_not_count(write_folder):
    root = write_folder({"a": 19, "b": 19})
    for number in range(20):
        (root / "a" / f"{number:03}.json").write_text("{}")
    (root / "a" / "bad0.png").write_bytes(b"bad")
    (root / "a" / "bad1.png").write_bytes(b"bad")
    assert len(load(root).report.set_aside) == 22  # Two images of forty.
    (root / "b" / "bad2.png").write_bytes(b"bad")
    with pytest.raises(InputError, match="3 of 41 images cannot be read, more than 5 %.*a/bad0.png: not an image"):
        load(root)


def test_a_class_without_readable_files_is_an_error(write_folder):
    root = write_folder({"train/a": 60, "train/b": 60, "test/a": 30, "test/b": 1, "val/a": 30, "val/b": 3})
    (root / "test" / "b" / "000.png").write_bytes(b"bad")
    with pytest.raises(InputError, match="no file of the class 'b' in test can be read"):
        load(root)


def test_gray_and_the_kinds_of_resizing(write_folder):
    root = write_folder({"a": 5, "b": 5})
    assert load(root, color="gray").image_shape == (8, 8, 1)
    first = {resize: load(root, resize=resize).source for resize in ("crop", "pad", "stretch")}
    assert {source.resize for source in first.values()} == {"crop", "pad", "stretch"}
    assert "stretched to 8 x 8, colour" in first["stretch"].description


def test_a_limit_applies_before_decoding(write_folder, capsys):
    splits = load(write_folder({"a": 60, "b": 20}), limit=8)
    assert splits.counts() == {"train": [6, 2], "val": [5, 2], "test": [6, 2]}
    assert "Decoding 23 files" in capsys.readouterr().out


def test_a_folder_named_without_a_slash_is_one_but_names_of_data_sets_stay_names(write_folder, monkeypatch):
    root = write_folder({"a": 5, "b": 5})
    write_folder({"c": 5}, name="synthetic")
    monkeypatch.chdir(root.parent)
    assert load("pictures").class_names == ("a", "b")
    assert len(load("synthetic", size=28, limit=20).class_names) == 7


def test_the_source_is_known_by_the_files_contents(write_folder):
    first = load(write_folder({"a": 5, "b": 5}))
    other = load(write_folder({"a": 5, "b": 5}, name="elsewhere/pictures"))
    assert list(first.source.files.values()) == list(other.source.files.values())
    assert dataclasses.replace(first.source, files={}) == dataclasses.replace(other.source, files={})


def test_file_names_that_are_not_text_are_accepted(write_folder):
    root = write_folder({"a": 5, "b": 5})
    content = (root / "a" / "000.png").read_bytes()
    with open(bytes(root / "a") + b"/caf\xe9.png", "wb") as file:
        file.write(content)
    splits = load(root)
    names = [name for split in splits.report.names.values() for name in split]
    assert "a/caf\ufffd.png" in names
    assert len(names) == 11


def test_a_folder_whose_own_name_is_not_text_is_refused_early(write_folder):
    root = write_folder({"a": 5, "b": 5})
    strange = bytes(root.parent) + b"/caf\xe9"
    os.rename(root, strange)
    with pytest.raises(InputError, match="caf\ufffd contains bytes that are not text"):
        load(os.fsdecode(strange))


def test_links_out_of_a_class_cause_no_wrong_labels(write_folder):
    root = write_folder({"train/a": 9, "train/b": 9, "test/a": 3, "test/b": 3})
    for number, target in enumerate([root, root / "train", root / "train" / "b"]):
        (root / "train" / "a" / f"link{number}").symlink_to(target)
    assert load(root).counts()["train"] == [8, 8]


@pytest.mark.parametrize(
    ("counts", "message"),
    [({"a": 9}, "at least 2 classes"), ({"train/Cat": 9, "train/dog": 9, "val/cats": 9, "val/dog": 9}, "shows 'cats'")],
)
def test_unusable_data_is_refused_before_decoding(counts, message, write_folder, monkeypatch):
    monkeypatch.setattr(image_files, "read_bytes", None)
    with pytest.raises(InputError, match=message):
        load(write_folder(counts))


@pytest.fixture
def phone(write_folder, monkeypatch):
    """30 JPEG and 50 HEIC pictures of cats and 80 JPEG ones of dogs, where no decoder of HEIC is installed."""
    root = write_folder({"cat": 30, "dog": 80}, side=8)
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".jpg"))
    for number in range(50):
        (root / "cat" / f"IMG_{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    for name in ("pi_heif", "pillow_heif"):
        monkeypatch.setitem(sys.modules, name, None)
    return root


def test_photos_of_a_phone_that_cannot_be_read_stop_the_run(phone):
    message = r"50 of 160 images cannot be read.*IMG_0.HEIC: a HEIC file; pip install 'keras_vision\[heif\]'"
    with pytest.raises(InputError, match=message):
        load(phone)


def test_dicom_files_without_a_suffix_count_as_images_and_every_reason_is_shown(write_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    root = write_folder({"a": 10, "b": 10}, side=8)
    for number in range(7):
        (root / "a" / f"1.2.840.{number}").write_bytes(b"\0" * 128 + b"DICM")
    (root / "b" / "zebra.nef").write_bytes(b"II*\0")
    (root / "b" / "notes").write_text("no image")
    with pytest.raises(InputError, match="8 of 28 images") as caught:
        load(root)
    assert "a/1.2.840.0: a DICOM file; pip install" in str(caught.value)
    assert "b/zebra.nef: a camera raw file; convert it to JPEG" in str(caught.value)


def test_reports_among_dicom_images_are_set_aside_and_not_counted(write_folder):
    pydicom = pytest.importorskip("pydicom", reason="needs pydicom")
    root = write_folder({"a": 10, "b": 10}, side=8)
    report = pydicom.Dataset()
    report.file_meta = pydicom.dataset.FileMetaDataset()
    report.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = pydicom.uid.BasicTextSRStorage
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    for number in range(5):
        report.save_as(root / "a" / f"report{number}.dcm", enforce_file_format=True)
    found = load(root).report.set_aside
    assert found == {f"a/report{number}.dcm": "a DICOM file without an image" for number in range(5)}


def deep_folder(write_folder):
    """The pictures of `write_folder`, of 12 bits in 16: white is 4095."""
    root = write_folder({"a": 6, "b": 6}, side=8)
    for path in root.rglob("*.png"):
        image = cv2.imread(str(path))
        cv2.imwrite(str(path), (image.astype(np.uint16) << 4) + (image >> 4))
    return root


def test_twelve_bits_in_sixteen_are_mentioned_and_scaled_by_an_intensity_range(write_folder):
    root = deep_folder(write_folder)
    dark = load(root)
    assert dark.train.images[:].max() < 16
    assert all("16-bit values from" in remark for remark in dark.report.remarks.values())
    assert len(dark.report.remarks) == 12
    assert "12 files with a remark (a/000.png: 16-bit values from" in dark.report.summary()
    assert dark.source.intensity_range is None
    bright = load(root, intensity_range=(0.0, 4095.0))
    assert bright.report.remarks == {}
    assert bright.source.intensity_range == (0.0, 4095.0)
    assert "; the files' values 0 to 4,095 are 0 to 255 in the images" in bright.source.description
    for row, name in enumerate(bright.report.names["train"]):
        shown = cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED)[..., ::-1] >> 4
        np.testing.assert_allclose(bright.train.images[row], shown, atol=1)
