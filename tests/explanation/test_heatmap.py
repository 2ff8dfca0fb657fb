import cv2
import numpy as np
import pytest

from keras_vision.explanation.heatmap import heatmaps, resize


def test_two_pixels_are_interpolated_between_their_centres():
    np.testing.assert_allclose(resize(np.array([[0.0, 4.0]]), (4,)), [[0, 1, 3, 4]])


@pytest.mark.parametrize("size", [(28, 28), (5, 9), (7, 64), (3, 2)])
def test_two_axes_are_resized_as_opencv_does(size):
    maps = np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)
    expected = [cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR) for part in maps]
    np.testing.assert_allclose(resize(maps, size), expected, atol=1e-5)


def test_three_axes_are_resized_one_after_the_other():
    maps = np.zeros((1, 2, 2, 2))
    maps[0, 1, 0, 1] = 1
    resized = resize(maps, (4, 6, 2))
    assert resized.shape == (1, 4, 6, 2)
    np.testing.assert_allclose(resized[0, :, 0, 1], [0, 0.25, 0.75, 1])


def test_each_heatmap_has_its_own_scale_and_negative_values_become_zero():
    scaled = heatmaps(np.array([[-5.0, 2.0], [8.0, 4.0]]), (2,))
    np.testing.assert_allclose(scaled, [[0, 1], [1, 0.5]])
    assert scaled.dtype == np.float32


def test_maps_without_positive_values_become_zero():
    assert not heatmaps(np.array([[0.0, 0.0], [-1.0, -2.0]]), (5,)).any()
