"""Changes that move whole pixels, compared with NumPy's padding and slicing and with the interpolating path."""

import numpy as np
import pytest

from keras_vision.data.augmentation import augment, parameters, transform
from keras_vision.data.draws import uniforms
from keras_vision.recipe import AugmentationSpec, InputError

FILL_MODES = ("nearest", "constant", "reflect", "wrap")
# NumPy's names; its wrap has another period than SciPy's, so wrap is compared only with the interpolating path.
PADDINGS = {"nearest": {"mode": "edge"}, "constant": {"constant_values": 17}, "reflect": {"mode": "symmetric"}}


def random_images(count, shape=(12, 12, 3)):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def test_a_crop_by_hand():
    row = np.array([10, 20, 30, 40], np.uint8).reshape(1, 1, 4, 1)
    right, left = {"crop_x": np.array([1.0])}, {"crop_x": np.array([-2.0])}
    assert transform(row, right).ravel().tolist() == [20, 30, 40, 40]
    assert transform(row, right, "constant", 7.5).ravel().tolist() == [20, 30, 40, 7.5]
    assert transform(row, left, "reflect").ravel().tolist() == [20, 10, 10, 20]
    assert transform(row, left, "wrap").ravel().tolist() == [20, 30, 10, 20]
    # The image is cropped and then mirrored.
    mirrored = {**right, "flip_horizontal": np.array([True])}
    assert transform(row, mirrored, "constant").ravel().tolist() == [0, 40, 30, 20]


@pytest.mark.parametrize("fill_mode", PADDINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_is_a_slice_of_the_padded_image(fill_mode, channels):
    images, spec = random_images(60, (12, 15, channels)), AugmentationSpec(random_crop=4, fill_mode=fill_mode, cval=17)
    draws = uniforms(0, 0, 60)
    drawn = parameters(spec, draws, (12, 15))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), **PADDINGS[fill_mode])
    starts = np.stack([drawn["crop_y"], drawn["crop_x"]], 1).astype(int) + 4
    expected = [one[y : y + 12, x : x + 15] for one, (y, x) in zip(padded, starts, strict=True)]
    assert np.array_equal(augment(images, spec, draws), expected)


def test_all_positions_of_the_crop_are_equally_frequent():
    drawn = parameters(AugmentationSpec(random_crop=2), uniforms(0, 0, 5000), (8, 8))
    places, counts = np.unique(np.stack([drawn["crop_x"], drawn["crop_y"]]), axis=1, return_counts=True)
    assert places.shape == (2, 25)
    assert set(places.ravel()) == {-2, -1, 0, 1, 2}
    # 200 are expected, with a standard deviation of 14.
    assert 140 < counts.min() <= counts.max() < 260


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_moving_pixels_equals_interpolation_at_whole_pixels(fill_mode):
    images = random_images(80)
    spec = AugmentationSpec(random_crop=5, horizontal_flip=True, vertical_flip=True, rotate90=True)
    drawn = parameters(spec, uniforms(0, 0, 80), (12, 12))
    moved = transform(images, drawn, fill_mode, 17.5)
    assert np.array_equal(moved, transform(images, {**drawn, "theta": np.zeros(80)}, fill_mode, 17.5))
    assert set(drawn["quarter_turns"]) == {0, 1, 2, 3}


def test_a_crop_comes_before_a_rotation():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 6] = 255
    # The crop moves the bright pixel to the centre, about which the image is then rotated.
    turned = transform(image, {"crop_x": np.array([2.0]), "crop_y": np.array([0.0]), "theta": np.array([90.0])})
    assert np.argwhere(turned[0, :, :, 0] > 200).tolist() == [[4, 4]]


def test_a_crop_that_may_miss_the_image_is_refused():
    with pytest.raises(InputError, match="--random-crop takes less than the sides of the images, 12 and 9 pixels"):
        augment(random_images(2, (12, 9, 1)), AugmentationSpec(random_crop=9), uniforms(0, 0, 2))
