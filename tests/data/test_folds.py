"""Cross-validation: every image is held out once, groups stay whole, classes stay in proportion."""

import dataclasses
import itertools
import warnings

import numpy as np
import pytest

from keras_vision import data
from keras_vision.data import folds
from keras_vision.data.data_report import DataReport
from keras_vision.data.rows import Rows
from keras_vision.recipe import DataSpec, InputError


def drawn(seed, count=200, grouped=False):
    """Labels of three classes, and the group of each image or None."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    return labels, np.array([f"patient {number}" for number in rng.integers(0, 40, count)]) if grouped else None


def splits_of(labels, sizes, own_test=True):
    """Splits whose images have their number as pixels."""
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 1), np.uint8)
    parts = [
        data.Split(*(array[start:end] for array in (images, labels)))
        for start, end in zip([0, *np.cumsum(sizes)], np.cumsum(sizes), strict=False)
    ]
    return data.Splits(*parts, ("a", "b", "c"), data.Source("toy", "Numbers", "CC0-1.0"), own_test=own_test)


def held_out(splits, number, count, seed=0):
    return folds.held_out(splits, number, count, share=0.1, seed=seed, where="toy")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [2, 3, 10])
def test_classes_are_as_even_as_they_can_be(count, seed):
    labels, _ = drawn(seed)
    found = folds.assign(labels, count, seed)
    assert set(found) == set(range(count))
    for label in range(3):
        of_each = np.bincount(found[labels == label], minlength=count)
        assert of_each.max() - of_each.min() <= 1
    np.testing.assert_array_equal(found, folds.assign(labels, count, seed))
    assert (found != folds.assign(labels, count, seed + 1)).any()


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_classes_nearly_even(seed):
    labels, members = drawn(seed, 400, grouped=True)
    found = folds.assign(labels, 4, seed, members)
    assert all(len(set(found[members == name])) == 1 for name in set(members))
    assert np.ptp(np.bincount(found)) < 40
    share = [np.mean(labels[found == number] == 0) for number in range(4)]
    assert np.ptp(share) < 0.15


def test_strata_that_are_all_smaller_than_the_folds_are_divided_anyway():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sorted(np.bincount(folds.assign(np.arange(12) // 3, 6, 0))) == [2] * 6


@pytest.mark.parametrize("own_test", [True, False])
def test_every_image_is_held_out_once_and_a_test_split_of_the_data_never(own_test):
    labels, _ = drawn(0)
    divided = 170 if own_test else 200
    splits = splits_of(labels, [150, 20, 30], own_test)
    seen = []
    for number in range(1, 6):
        found = held_out(splits, number, 5)
        pixels = {name: part.images[:, 0, 0, 0].tolist() for name, part in found.named().items()}
        for name, part in found.named().items():
            np.testing.assert_array_equal(labels[pixels[name]], part.labels)
        assert sorted(itertools.chain.from_iterable(pixels.values())) == list(range(divided))  # Each in one split.
        assert pixels["test"] == found.fold.rows.tolist()
        # A tenth of each class of the other folds.
        assert len(pixels["val"]) == pytest.approx(divided * 0.8 * 0.1, abs=2)
        assert (found.fold.images, found.fold.unused) == (divided, 30 if own_test else 0)
        seen += pixels["test"]
    assert sorted(seen) == list(range(divided))
    assert ("its own test split of 30 images is not used" in found.source.description) == own_test
    assert splits.train.images[0, 0, 0, 0] == 0  # The data itself is as it was.


def test_a_folder_is_divided_with_all_its_images_in_whole_groups(write_folder):
    root = write_folder({"a": 18, "b": 18})  # A patient has an image of each class.
    spec = {"data": str(root), "size": 8, "group_by": r"(\d+)\.png", "audit_leaks": False}
    whole = data.load_splits(DataSpec(**spec))
    everything = sorted(name for names in whole.report.names.values() for name in names)
    seen, patients = [], []
    for number in (1, 2, 3):
        splits = data.load_splits(DataSpec(**spec, fold=f"{number}/3"))
        assert isinstance(splits.test.images, Rows)
        of_split = {name: set(members) for name, members in splits.report.groups.items()}
        assert all(of_split.values())
        assert len(set.union(*of_split.values())) == sum(map(len, of_split.values())) == 18
        names = splits.report.names
        assert sorted(name for part in names.values() for name in part) == everything
        for name, part in splits.named().items():
            assert [text[0] for text in names[name]] == [splits.class_names[label] for label in part.labels]
        seen += list(names["test"])
        patients += of_split["test"]
        assert splits.report.notes == whole.report.notes == ("18 groups of images, none of them in two splits.",)
    assert sorted(seen) == everything
    assert len(set(patients)) == len(patients)


def test_what_is_said_of_splits_is_said_of_the_fold_s(write_folder):
    """A patient who is in train and val of the data is in one fold."""
    root = write_folder({f"{split}/{name}": 6 for split in ("train", "val", "test") for name in "ab"})
    spec = {"data": str(root), "size": 8, "group_by": r"(\d+)\.png", "audit_leaks": False}
    assert "6 of 6 groups of images are in two splits" in data.load_splits(DataSpec(**spec)).report.notes[-1]
    splits = data.load_splits(DataSpec(**spec, fold="1/2"))
    assert splits.report.notes[-1] == "6 groups of images, none of them in two splits."
    assert splits.fold.unused == 12
    assert not any(name.startswith("test/") for names in splits.report.names.values() for name in names)


@pytest.mark.parametrize(
    ("labels", "members", "count", "message"),
    [
        ([0, 0, 0, 1, 1, 1, 2, 2], None, 3, "class 'c' has only 2 of the 8 images"),
        ([0, 1, 2] * 4, list("aabb" * 3), 3, "of only 2 groups, which stay whole"),
        ([0, 1] * 6 + [2] * 4, list("abcdef" * 2) + ["g"] * 4, 2, "all those of 'c' are in one fold"),
        ([0, 0, 1, 1, 2, 2], None, 2, "none is left for validation"),
    ],
)
def test_too_many_folds_are_refused_in_a_sentence(labels, members, count, message):
    splits = splits_of(np.array(labels), [len(labels) - 1, 1, 0])
    if members is not None:
        named = {"train": np.array(members[:-1], object), "val": np.array(members[-1:], object)}
        splits = dataclasses.replace(splits, report=DataReport(groups=named))
    with pytest.raises(InputError, match=message):
        folds.check(splits, count, share=0.1, seed=0, where="toy")


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "1", "1/5/2", "a/b", "1/99999999"])
def test_a_fold_is_a_part_of_a_number_of_parts(text):
    with pytest.raises(InputError, match="--fold takes a part and the number of parts"):
        DataSpec(fold=text)
