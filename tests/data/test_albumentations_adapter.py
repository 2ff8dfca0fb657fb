"""The adapter with a stand-in that follows albumentations' protocol, and with albumentations where it is installed."""

import pickle

import numpy as np
import pytest

from keras_vision.data import Albumentations, Batches, Split
from keras_vision.data.augmentation import augment
from keras_vision.data.draws import uniforms
from keras_vision.recipe import InputError


class StandIn:
    """The part of an `albumentations.Compose` that the adapter uses: two flips and an offset, from both generators."""

    def __init__(self):
        self.set_random_state(None, None)

    def set_random_state(self, random_generator, py_random):
        self.random_generator, self.py_random = random_generator, py_random

    def __call__(self, *, image):
        if self.py_random.random() < 0.5:
            image = image[:, ::-1]
        if self.py_random.random() < 0.5:
            image = image[::-1]
        image //= 2  # In place, like some transforms.
        return {"image": image + self.random_generator.integers(0, 100, dtype=np.uint8)}


class Returning:
    """A Compose that returns whatever a function returns."""

    def __init__(self, function):
        self.function = function

    def set_random_state(self, random_generator, py_random):
        pass

    def __call__(self, *, image):
        return {"image": self.function(image)}


def random_images(count, channels=3):
    return np.random.default_rng(0).integers(0, 256, (count, 12, 10, channels), dtype=np.uint8)


def epoch_of(batches):
    images = np.empty(batches.split.images.shape, np.float32)
    for number in range(len(batches)):
        rows = batches._order[number * batches.batch_size : (number + 1) * batches.batch_size]
        images[rows] = batches[number][0]
    return images


def check_repeatable(compose):
    """The adapter's guarantees, for any Compose of random changes."""
    split = Split(random_images(60), np.arange(60) % 2)
    before = split.images.copy()
    results = []
    for batch_size, shuffle in [(16, False), (7, True), (60, True), (1, False)]:
        adapter = pickle.loads(pickle.dumps(Albumentations(compose)))  # As another process receives it.
        batches = Batches(split, 2, batch_size, augmentation=adapter, shuffle=shuffle, seed=9)
        batches.start_epoch(4)
        results.append(epoch_of(batches))
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    assert results[0].dtype == np.float32
    assert np.array_equal(split.images, before)
    batches.start_epoch(5)
    assert not np.array_equal(epoch_of(batches), results[0])


def test_a_stand_in_is_repeatable_for_any_batch_size_order_and_process():
    check_repeatable(StandIn())


def test_every_image_has_its_own_random_numbers():
    same = np.repeat(random_images(1), 64, axis=0)
    changed = augment(same, Albumentations(StandIn()), uniforms(0, 0, 64))
    assert len(np.unique(changed.reshape(64, -1), axis=0)) > 50


def test_the_compose_and_the_images_are_not_modified():
    compose, images = StandIn(), random_images(3)
    augment(images, Albumentations(compose), uniforms(0, 0, 3))
    assert compose.py_random is None
    assert np.array_equal(images, random_images(3))


def test_it_combines_with_mixup():
    split = Split(random_images(40), np.arange(40) % 2)
    _, labels = Batches(split, 2, 40, augmentation=Albumentations(StandIn(), mixup=1.0))[0]
    assert ((labels > 0).sum(1) == 2).any()
    with pytest.raises(InputError, match="--mixup takes a number of at least 0"):
        Albumentations(StandIn(), mixup=-1.0)


@pytest.mark.parametrize(
    ("function", "received"),
    [
        (lambda image: image.astype(np.float32) / 255, r"float32 of shape \(12, 10, 3\)"),
        (lambda image: image[:8], r"uint8 of shape \(8, 10, 3\)"),
        (lambda image: image.transpose(2, 0, 1), r"uint8 of shape \(3, 12, 10\)"),
        (lambda image: None, "NoneType"),
    ],
)
def test_results_other_than_uint8_images_of_the_same_shape_are_refused(function, received):
    with pytest.raises(InputError, match=f"must return uint8 images .* Received: {received} for an image"):
        augment(random_images(2), Albumentations(Returning(function)), uniforms(0, 0, 2))


def test_volumes_and_objects_that_are_not_a_compose_are_refused():
    volumes = Split(np.zeros((2, 4, 4, 4, 1), np.uint8), np.array([0, 1]))
    with pytest.raises(InputError, match="Albumentations changes only 2D images, of shape"):
        Batches(volumes, 2, 2, augmentation=Albumentations(StandIn()))
    for other in (lambda image: image, [StandIn()]):
        with pytest.raises(InputError, match="takes an albumentations.Compose, of version 2.0 or newer. Received: "):
            Albumentations(other)


@pytest.fixture
def albumentations(monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    return pytest.importorskip("albumentations", reason="needs albumentations")


def test_a_compose_is_repeatable(albumentations):
    check_repeatable(
        albumentations.Compose(
            [
                albumentations.HorizontalFlip(),
                albumentations.OneOf([albumentations.Affine(rotate=(-20, 20)), albumentations.GaussNoise()]),
                albumentations.RandomBrightnessContrast(),
                albumentations.CoarseDropout(),
            ],
            seed=5,
        )
    )


def test_two_flips_are_independent(albumentations):
    same = np.repeat(random_images(1), 80, axis=0)
    compose = albumentations.Compose([albumentations.HorizontalFlip(), albumentations.VerticalFlip()])
    changed = augment(same, Albumentations(compose), uniforms(0, 0, 80))
    both = [same[0], same[0, :, ::-1], same[0, ::-1], same[0, ::-1, ::-1]]
    counts = [sum(np.array_equal(one, other) for one in changed) for other in both]
    # 20 of each are expected, with a standard deviation of 3.9.
    assert min(counts) > 8
    assert sum(counts) == 80


def test_normalize_and_resize_are_refused(albumentations):
    for transform in (albumentations.Normalize(), albumentations.Resize(8, 8)):
        with pytest.raises(InputError, match="must return uint8 images"):
            augment(random_images(2), Albumentations(albumentations.Compose([transform])), uniforms(0, 0, 2))


def test_gray_images_stay_gray(albumentations):
    compose = albumentations.Compose([albumentations.Affine(rotate=(-20, 20), p=1.0), albumentations.HorizontalFlip()])
    assert augment(random_images(4, 1), Albumentations(compose), uniforms(0, 0, 4)).shape == (4, 12, 10, 1)
