"""Which folders are splits and which are classes, as people have them; part P of the faults, and what is like it."""

import string
import unicodedata
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_vision.data import folder_layout
from keras_vision.recipe import InputError

SPLIT_NAMES = {
    "train": ("train", "Training", "seg_train", "training_set", "Train_Images", "train_data", "trainset", "1-train"),
    "val": ("val", "valid", "Validation", "val_images", "dev", "validation_set", "seg_valid", "ValImages"),
    "test": ("test", "Testing", "seg_test", "test_set", "holdout", "hold_out", "Test Data", "test2", "PrivateTest"),
}


@pytest.fixture
def tree(tmp_path):
    """Makes empty files, counts of pictures by folder."""

    def make(counts, name="pictures"):
        for inside, count in counts.items():
            folder = tmp_path / name / inside
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (folder / f"{number:03}.jpg").touch()
        return tmp_path / name

    return make


def counts(layout):
    return {split: {name: len(files) for name, files in found.items()} for split, found in layout.splits.items()}


@pytest.mark.parametrize(("split", "name"), [(split, name) for split, names in SPLIT_NAMES.items() for name in names])
def test_names_of_splits(split, name):
    assert folder_layout.split_of(name) == split


@pytest.mark.parametrize(
    "name", ["trains", "cat", "training_wheels", "test tube", "valley", "trainer", "", "train_test", "attest", "2019"]
)
def test_names_of_classes_are_no_splits(name):
    assert folder_layout.split_of(name) is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.tuples(*(st.sampled_from(SPLIT_NAMES[split]) for split in ("train", "test"))),
    wrapped=st.integers(0, 2),
    again=st.booleans(),
    beside=st.sampled_from([None, "seg_pred", "annotations", "readme"]),
    classes=st.lists(st.text(string.ascii_lowercase, min_size=3, max_size=6), min_size=2, max_size=4, unique=True),
)
def test_splits_are_found_however_they_are_wrapped(tree, names, wrapped, again, beside, classes):
    classes = [f"{name}x" for name in classes]  # None of these is a split's name.
    inside = "".join(f"wrap{depth}/" for depth in range(wrapped))
    found = {}
    for name in names:
        place = f"{inside}{name}/" + (f"{name}/" if again else "")
        found |= {f"{place}{kind}": 2 for kind in classes}
    if beside:
        found[f"{inside}{beside}"] = 3 if beside == "seg_pred" else 0
    layout = folder_layout.read(tree(found, uuid.uuid4().hex))
    expected = dict.fromkeys(sorted(classes), 2)
    assert counts(layout) == {"train": expected, "test": expected}
    place = f"{inside}{names[0]}" + f"/{names[0]}" * again
    assert (f"train ({place})" in layout.described) == (place != "train")
    assert ("seg_pred (3 images)" in layout.described) == (beside == "seg_pred")


@pytest.mark.parametrize(
    ("found", "classes", "described"),
    [
        ({"wrap/cat": 3, "wrap/dog": 3}, {"cat": 3, "dog": 3}, "without splits, in wrap"),
        ({"images/cat": 2, "images/dog": 2, "masks": 0}, {"cat": 2, "dog": 2}, "without splits, in images"),
        ({"train": 3, "car": 3, "bus": 3}, {"bus": 3, "car": 3, "train": 3}, "without splits"),  # Vehicles.
        ({"cat": 3, "dog/a": 2, "dog/b": 1}, {"cat": 3, "dog": 3}, "without splits"),
        ({"cat": 3, "dog": 3, "": 2}, {"cat": 3, "dog": 3}, "left out: 2 images in the folder itself"),
    ],
)
def test_classes_without_splits(tree, found, classes, described):
    layout = folder_layout.read(tree(found))
    assert counts(layout) == {"all": classes}
    assert described in layout.described


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a/cat": 2, "a/dog": 2, "b/cat": 2, "b/dog": 2}, r"a, b hold folders \(a: cat, dog\) and no images.*'\*' if"),
        ({"train/a/x": 1, "train/b/y": 1, "test/a": 1}, r"pictures/train: its folders a, b .* --classes-at train if"),
        ({"images": 5}, r"one folder with images, images \(5 images\).*--labels-csv FILE.csv"),
        ({"": 4}, "has 4 images and no folders. Labels in a table"),
        ({"train/cat": 3}, r"pictures/train has one folder with images, cat"),
        ({"val/a": 1, "test/a": 1}, "has test, val, but no train folder"),
        ({"train": 3, "test": 3}, "has the splits test, train, with images and no class folders in them"),
        ({"train_images": 3, "test_images": 3, "sample": 1}, "has the splits test_images, train_images, with images"),
        ({"": 1, "wrap/a": 2, "wrap/b": 2}, r"its folder wrap holds folders \(wrap: a, b\).*'\*' if a, b are"),
    ],
)
def test_what_is_not_clear_is_asked(tree, found, message):
    with pytest.raises(InputError, match=message):
        folder_layout.read(tree(found))


def test_a_table_that_is_there_is_named(tree):
    root = tree({"images": 4, "": 0})
    (root / "labels.csv").touch()
    with pytest.raises(InputError, match="read by --labels-csv labels.csv"):
        folder_layout.read(root)


@pytest.mark.parametrize(
    ("classes_at", "expected"),
    [
        ("*", {"all": {"cat": 4, "dog": 4}}),
        (".", {"all": {"a": 4, "b": 4}}),
        ("a", {"all": {"cat": 2, "dog": 2}}),
        ("a/", {"all": {"cat": 2, "dog": 2}}),
    ],
)
def test_a_stated_place_of_the_classes(tree, classes_at, expected):
    root = tree({"a/cat": 2, "a/dog": 2, "b/cat": 2, "b/dog": 2})
    assert counts(folder_layout.read(root, classes_at)) == expected


@pytest.mark.parametrize("classes_at", ["images", "seg_train/images", "*/images"])
def test_a_stated_place_in_splits(tree, classes_at):
    root = tree(
        {f"{split}/{kind}/{name}": 2 for split in ("seg_train", "val") for kind in ("images", "masks") for name in "ab"}
    )
    found = counts(folder_layout.read(root, classes_at))
    assert found in ({"train": {"a": 2, "b": 2}, "val": {"a": 2, "b": 2}}, {"all": {"a": 4, "b": 4}})
    assert ("all" in found) == (classes_at == "*/images")


def test_a_place_that_does_not_exist(tree):
    with pytest.raises(InputError, match="--classes-at x/y: .* has no such folder; it has a"):
        folder_layout.read(tree({"a": 1}), "x/y")


def test_names_that_look_the_same_are_told_apart_in_one_split(tree):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    layout = folder_layout.read(tree({composed: 1, apart: 2, "Cat": 1, "cat": 1}))
    assert counts(layout) == {"all": {r"caf\xe9": 1, r"cafe\u0301": 2, "Cat": 1, "cat": 1}}
    assert len(layout.notes) == 2


def test_names_that_differ_between_splits_only_are_one_class(tree):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    layout = folder_layout.read(tree({f"train/{composed}": 1, "train/Cat": 1, f"test/{apart}": 2, "test/cat ": 3}))
    assert counts(layout) == {"train": {composed: 1, "Cat": 1}, "test": {composed: 2, "Cat": 3}}
    assert any("written" in note and r"cafe\u0301" in note for note in layout.notes)


def test_files_without_a_suffix_may_be_images_and_texts_are_none(tree):
    root = tree({"a": 0, "b": 0, "docs": 0})
    for name in ("a/1.2.840.113619", "a/IM0001", "b/0", "docs/README", "docs/notes.txt"):
        (root / name).touch()
    layout = folder_layout.read(root)
    assert counts(layout) == {"all": {"a": 2, "b": 1}}
    assert "left out: docs (no images)" in layout.described


def test_a_link_to_a_class_gives_no_image_twice(tree, tmp_path):
    root = tree({"train/a": 2, "train/b": 2})
    (root / "alias").symlink_to(root / "train" / "b")
    tree({"c": 2}, "elsewhere")
    (root / "train" / "c").symlink_to(tmp_path / "elsewhere" / "c")
    assert counts(folder_layout.read(root)) == {"train": {"a": 2, "b": 2, "c": 2}}


def test_folders_without_end_are_refused(tree):
    with pytest.raises(InputError, match="nested more than 64 deep"):
        folder_layout.read(tree({"a/" * 70: 1}))
