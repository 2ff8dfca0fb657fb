import numpy as np
import pytest

from keras_vision.data.augmentation import augment
from keras_vision.data.draws import uniforms
from keras_vision.data.erasing import rectangles
from keras_vision.recipe import AugmentationSpec


def random_images(count, shape=(32, 32, 3)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_a_rectangle_by_hand():
    # The least area, .02 of 10,000 pixels, and the middle aspect, 1: sides of 14.1; centred, at the left edge.
    assert rectangles(100, 100, np.array([[0, 0.5, 0.5, 0]])).tolist() == [[43, 57, 0, 14]]
    # The same area at the flattest aspect, .3: 7.7 rows and 25.8 columns; in the last corner.
    assert rectangles(100, 100, np.array([[0, 0, 0.9999, 0.9999]])).tolist() == [[92, 100, 74, 100]]


@pytest.mark.parametrize("size", [(200, 200), (200, 60), (60, 200), (7, 7), (1, 40), (1, 1)])
def test_rectangles_are_inside_the_image(size):
    top, bottom, left, right = rectangles(*size, np.random.default_rng(0).random((5000, 4))).T
    assert top.min() >= 0
    assert left.min() >= 0
    assert bottom.max() <= size[0]
    assert right.max() <= size[1]
    assert (bottom > top).all()
    assert (right > left).all()


def test_areas_and_aspects_fill_their_ranges_evenly():
    top, bottom, left, right = rectangles(500, 500, np.random.default_rng(0).random((20_000, 4))).T
    rows, columns = bottom - top, right - left
    shares = rows * columns / 500**2
    assert 0.0195 < shares.min() < 0.021
    assert 0.329 < shares.max() < 0.3305
    assert abs(shares.mean() - 0.175) < 0.003
    aspects = np.log(rows / columns)
    assert np.abs(aspects).max() < np.log(1 / 0.3) + 0.02
    assert np.quantile(aspects, 0.99) > np.log(3)
    # As many tall ones as wide ones, and as many at the top as at the bottom: 4 standard errors.
    assert abs(aspects.mean()) < 0.02
    assert abs((top + bottom).mean() / 2 - 250) < 3.5
    assert abs((left + right).mean() / 2 - 250) < 3.5


def test_some_of_the_images_get_one_rectangle_of_their_mean_colour():
    images = random_images(2000, (32, 24, 3))
    changed = augment(images, AugmentationSpec(random_erasing=0.3), uniforms(0, 0, 2000))
    different = (changed != images).any(-1)
    erased = different.any((1, 2))
    assert 0.26 < erased.mean() < 0.34
    for index in np.flatnonzero(erased)[:100]:
        rows, columns = np.flatnonzero(different[index].any(1)), np.flatnonzero(different[index].any(0))
        box = changed[index, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert np.allclose(box, images[index].mean((0, 1)), atol=1e-3)


def test_probability_1_erases_every_image_including_gray_ones():
    images = random_images(50, (28, 20, 1))
    changed = augment(images, AugmentationSpec(random_erasing=1.0), uniforms(0, 0, 50))
    assert (changed != images).any((1, 2, 3)).all()
