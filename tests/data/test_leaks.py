"""Leaks between splits: copies of every kind are found, and images that only look similar are not."""

import cv2
import numpy as np
import pytest

from keras_vision import data
from keras_vision.data import fingerprints, leaks
from keras_vision.data.leak_audit import audited
from keras_vision.data.splits import Source, Split, Splits
from keras_vision.files import image_files
from keras_vision.recipe import DataSpec, InputError


@pytest.fixture(scope="module")
def scenes(scene):
    """60 images of 72 x 72 that have nothing in common."""
    return np.array([scene(seed) for seed in range(60)])


def splits_of(train, val, test):
    parts = [Split(np.asarray(images), np.arange(len(images)) % 2) for images in (train, val, test)]
    return Splits(*parts, class_names=("a", "b"), source=Source("pictures", "", ""))


def jpeg(image, quality=70):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def cut(image, left, right):
    return cv2.resize(image[left : len(image) - right, left : len(image) - right], (72, 72))


COPIES = {
    "recompressed": lambda image: jpeg(image, 40),
    "smaller": lambda image: cv2.resize(cv2.resize(image, (36, 36), interpolation=cv2.INTER_AREA), (72, 72)),
    "brighter": lambda image: np.clip(image * 1.2, 0, 255).astype(np.uint8),
    "gray": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "cropped": lambda image: cut(image, 2, 2),
    "cropped at one corner": lambda image: cut(image, 3, 0),
    "turned and cropped": lambda image: jpeg(cut(np.rot90(image), 0, 2)),
    **{
        f"symmetry {turn}": lambda image, turn=turn: jpeg(np.ascontiguousarray(image_files.symmetry(image, turn)))
        for turn in range(8)
    },
}


def test_a_fingerprint_by_hand():
    """A cosine along the rows is one coefficient of the transform."""
    wave = np.cos(np.pi / 32 * 3 * (np.arange(32) + 0.5))
    image = np.rint(128 + 100 * np.tile(wave[:, np.newaxis, np.newaxis], (1, 32, 1))).astype(np.uint8)
    expected = np.zeros((8, 8))
    expected[3, 0] = 1
    np.testing.assert_allclose(fingerprints.fingerprints(image[np.newaxis])[0], expected, atol=0.01)


def test_the_cosine_transform_is_opencvs(scenes):
    gray = fingerprints.small_gray(scenes[0])
    expected = fingerprints.WEIGHTS * cv2.dct(gray.astype(np.float32))[:8, :8]
    found = fingerprints.fingerprints(scenes[:1])[0]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.parametrize("turn", range(8))
def test_a_fingerprint_of_a_turned_image_follows_from_the_images(turn, scenes):
    turned = np.array([np.ascontiguousarray(image_files.symmetry(image, turn)) for image in scenes])
    found = fingerprints.symmetry(fingerprints.fingerprints(scenes), turn)
    np.testing.assert_allclose(found, fingerprints.fingerprints(turned), atol=0.02)


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found(copy, scenes):
    test = np.array([COPIES[copy](image) for image in scenes[:10]])
    found = leaks.find(splits_of(scenes[:40], scenes[40:], test))
    assert {leak.rows for leak in found} == {(row, row) for row in range(10)}
    assert {leak.splits for leak in found} == {("train", "test")}
    assert all(0.85 <= leak.likeness <= 1 for leak in found)


def test_exact_copies_are_called_exact_and_found_in_every_pair_of_splits(scenes):
    found = leaks.find(splits_of(scenes[:30], scenes[29:32], np.concatenate([scenes[31:40], scenes[:1], scenes[:1]])))
    assert {(leak.splits, leak.rows, leak.exact) for leak in found} == {
        (("train", "val"), (29, 0), True),
        (("val", "test"), (2, 0), True),
        (("train", "test"), (0, 9), True),
        (("train", "test"), (0, 10), True),
    }


def test_copies_are_all_found_even_if_more_than_the_allowed_misses(scenes):
    found = leaks.find(splits_of(np.concatenate([scenes[:5], [scenes[5]] * 8]), scenes[10:12], scenes[5:6]))
    assert {leak.rows[0] for leak in found} == set(range(5, 13))


@pytest.mark.slow
def test_different_images_are_no_leaks(scenes, lesions):
    assert not leaks.find(splits_of(scenes[:30], scenes[30:40], scenes[40:]))
    assert not leaks.find(lesions)


def test_images_of_one_colour_do_not_match_each_other():
    """All black, nearly black, nearly black in another way: none has any details."""
    rng = np.random.default_rng(0)
    black = rng.integers(0, 3, (12, 40, 40, 1)).astype(np.uint8)
    black[:4] = 0
    assert not fingerprints.fingerprints(black).any()
    assert not leaks.find(splits_of(black[:6], black[6:9], black[9:]))


def test_the_same_outline_with_other_details_is_no_leak(scenes):
    """Like two hands on black: the same regions are bright in both."""
    outline = np.zeros((72, 72, 1), np.float32)
    cv2.circle(outline, (36, 40), 20, 1.0, -1)
    outline = cv2.GaussianBlur(outline, (0, 0), 6)[..., np.newaxis]
    both = (outline * (100 + 0.6 * scenes[:2])).astype(np.uint8)
    prints = fingerprints.fingerprints(both)
    assert np.sum(prints[0] * prints[1]) > 0.9
    assert not leaks.find(splits_of(both[:1], scenes[5:6], both[1:]))


def test_a_map_for_small_images_is_converted_to_large_ones_by_hand():
    """A zoom by 2 about the corner moves the centre of pixel 0 to .5 and, with twice as many pixels, to .5 again."""
    small = np.array([[2, 0, 0.5], [0, 1, 3]], np.float32)
    np.testing.assert_allclose(leaks._doubled(small), [[2, 0, 0.5], [0, 1, 6]])


def test_dropping_removes_from_train_every_image_that_is_in_another_split(scenes):
    splits = splits_of(scenes[:20], scenes[18:22], scenes[2:3])
    kept = audited(splits, drop=False, where="here")
    assert len(kept.train) == 20
    assert kept.report.summary() == "Leaks between splits: 3 exact, 0 near duplicates."
    dropped = audited(splits, drop=True, where="here")
    np.testing.assert_array_equal(dropped.train.images, np.delete(scenes[:20], [2, 18, 19], axis=0))
    np.testing.assert_array_equal(dropped.train.labels, np.delete(np.arange(20) % 2, [2, 18, 19]))
    assert (len(dropped.val), len(dropped.test)) == (4, 1)
    assert dropped.report.to_dict()["dropped_from_train"] == 3
    assert dropped.report.pairs.shape == (3, 2, 72, 72, 3)
    np.testing.assert_array_equal(dropped.report.pairs[:, 0], dropped.report.pairs[:, 1])
    assert not audited(dropped, drop=True, where="here").report.leaks


def test_a_class_whose_images_all_leak_is_an_error(scenes):
    splits = splits_of(scenes[:4], scenes[[1, 3]], scenes[10:12])
    with pytest.raises(InputError, match="here after --drop-leaks: no image in train shows 'b'"):
        audited(splits, drop=True, where="here")


def test_leaks_in_folders_are_reported_with_names_and_classes(write_folder):
    root = write_folder({"train/a": 6, "train/b": 6, "val/a": 3, "val/b": 3, "test/a": 3, "test/b": 3}, side=64)
    image = cv2.imread(str(root / "train" / "a" / "004.png"))
    cv2.imwrite(str(root / "test" / "b" / "copy.jpg"), cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE))
    spec = {"data": str(root), "size": 64}
    (leak,) = data.load_splits(DataSpec(**spec)).report.leaks
    assert dict(zip(leak.splits, leak.names, strict=True)) == {"train": "train/a/004.png", "test": "test/b/copy.jpg"}
    assert not leak.exact
    assert not leak.same_class
    splits = data.load_splits(DataSpec(**spec, drop_leaks=True))
    assert splits.counts()["train"] == [5, 6]
    assert not data.load_splits(DataSpec(**spec, audit_leaks=False)).report.leaks


def test_npz_files_are_audited_on_request(write_npz, scenes):
    path = write_npz(
        "twins.npz", shape=(72, 72, 3), test_images=scenes[:20], train_images=scenes[:40], counts=(40, 12, 20)
    )
    assert data.load_splits(DataSpec(data=str(path))).report is None
    report = data.load_splits(DataSpec(data=str(path), audit_leaks=True)).report
    assert report.exact_leaks == 20
    assert set(report.leaks[0].splits) == {"train", "test"}


def test_volumes_are_not_audited():
    with pytest.raises(InputError, match="compare images of shape"):
        data.load_splits(DataSpec(data="synthetic3d", size=16, audit_leaks=True))
