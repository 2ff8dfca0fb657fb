"""Windows of an image, enlarged to its size: by hand, and compared with OpenCV's resize."""

import cv2
import numpy as np
import pytest

from keras_vision.data.augmentation import augment, parameters, transform
from keras_vision.data.draws import uniforms
from keras_vision.recipe import AugmentationSpec, InputError


def window(width, height, x, y):
    names = ("window_width", "window_height", "window_x", "window_y")
    return {name: np.array([value], float) for name, value in zip(names, (width, height, x, y), strict=True)}


@pytest.mark.parametrize(("x", "y", "quarter"), [(-4, -3, np.s_[:6, :8]), (4, 3, np.s_[6:, 8:])])
def test_a_quarter_becomes_the_image(x, y, quarter):
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    found = transform(image[np.newaxis], window(0.5, 0.5, x, y))[0]
    expected = cv2.resize(image[quarter].astype(np.float32), (16, 12), interpolation=cv2.INTER_LINEAR)
    # At the window's edge this interpolates with the pixels beyond it, which OpenCV does not have.
    np.testing.assert_allclose(found[1:-1, 1:-1], expected[1:-1, 1:-1], atol=0.1)


def test_the_window_is_cut_out_before_a_flip():
    row = np.array([10, 20, 30, 40], np.uint8).reshape(1, 1, 4, 1)
    right_half = {**window(0.5, 1, 1, 0), "flip_horizontal": np.array([True])}
    # Coordinates 1.75, 2.25, 2.75 and 3.25 of the row, from the right.
    np.testing.assert_allclose(transform(row, right_half).ravel(), [40, 37.5, 32.5, 27.5], atol=0.01)


def test_windows_are_inside_the_image_and_have_the_requested_area_and_aspect():
    height, width = 30, 40
    drawn = parameters(AugmentationSpec(random_resized_crop=0.2), uniforms(0, 0, 20_000), (height, width))
    wide, high = drawn["window_width"] * width, drawn["window_height"] * height
    assert np.all(np.abs(drawn["window_x"]) + wide / 2 <= width / 2 + 1e-9)
    assert np.all(np.abs(drawn["window_y"]) + high / 2 <= height / 2 + 1e-9)
    area = wide * high / (width * height)
    assert area.min() == pytest.approx(0.15, abs=0.055)  # Cut where an aspect does not fit.
    assert area.max() > 0.95
    assert (area < 0.6).mean() == pytest.approx(0.5, abs=0.05)
    whole = (wide < width) & (high < height)
    aspects = (wide / high)[whole]
    assert 0.74 < aspects.min() < 0.76
    assert 1.32 < aspects.max() < 1.34
    # Every place is as likely as any other.
    room = (1 - drawn["window_width"]) > 0.2
    places = (drawn["window_x"] / ((1 - drawn["window_width"]) * width))[room]
    assert np.histogram(places, 4, (-0.5, 0.5))[0] / room.sum() == pytest.approx([0.25] * 4, abs=0.02)


def test_a_window_of_the_full_area_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 1), dtype=np.uint8)
    found = transform(images, {name: np.repeat(values, 3) for name, values in window(1, 1, 0, 0).items()})
    np.testing.assert_allclose(found, images, atol=0.02)


def test_volumes_have_no_resized_crop():
    with pytest.raises(InputError, match="--random-resized-crop is only for 2D images"):
        augment(np.zeros((2, 8, 8, 8, 1), np.uint8), AugmentationSpec(random_resized_crop=0.5), uniforms(0, 0, 2))
