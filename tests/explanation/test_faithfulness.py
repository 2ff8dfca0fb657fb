"""Faithfulness of heatmaps for a function of the left half of the image, so that the right explanation is known."""

import numpy as np
import pytest
from scipy import ndimage

from keras_vision.explanation import faithfulness

IMAGES = np.random.default_rng(0).uniform(0, 255, (6, 12, 12, 3)).astype("float32")
IMAGES[:, :, :6] = 255 - IMAGES[:, :, :6] * 0.1  # The left half is bright.
TARGETS = np.zeros(6, int)
LEFT = np.zeros((6, 12, 12), "float32")
LEFT[:, :, :6] = np.linspace(1, 0.5, 6)


def probabilities(images):
    bright = images[:, :, :6].mean(axis=(1, 2, 3)) / 255
    return np.stack([bright, 1 - bright], axis=1)


def test_the_right_explanation_is_faithful_and_its_opposite_is_not():
    random = faithfulness.random_heatmaps(6, (12, 12))
    good, bad, chance = (
        faithfulness.judge_heatmaps(probabilities, IMAGES, maps, TARGETS) for maps in (LEFT, 1 - LEFT, random)
    )
    assert good.insertion > chance.insertion > bad.insertion
    assert good.deletion < chance.deletion < bad.deletion
    assert good.road > 0.1 > abs(chance.road)
    assert bad.road == pytest.approx(-good.road, abs=0.05)


def test_the_deletion_curve_goes_from_the_image_to_its_mean_colour():
    curve = faithfulness.deletion_curve(probabilities, IMAGES, LEFT, TARGETS, steps=4)
    assert curve.shape == (6, 5)
    np.testing.assert_allclose(curve[:, 0], probabilities(IMAGES)[:, 0], rtol=1e-5)
    # At the end, all pixels have the image's mean colour.
    np.testing.assert_allclose(curve[:, -1], IMAGES.mean(axis=(1, 2, 3)) / 255, rtol=1e-5)


def test_pixels_are_ranked_from_the_hottest():
    ranks = faithfulness.hottest_first(np.array([[[0.1, 0.9], [0.4, 0.0]]]))
    np.testing.assert_array_equal(ranks, [[[0.5, 0.0], [0.25, 0.75]]])


@pytest.mark.parametrize("spatial", [(9, 9), (5, 6, 7)])
def test_a_removed_part_is_filled_from_its_neighbours(spatial):
    """Linear interpolation continues a ramp through a hole, up to the noise."""
    ramp = np.broadcast_to(np.linspace(50, 200, spatial[-1])[:, np.newaxis], (*spatial, 1)).astype("float32")
    removed = np.zeros(spatial, bool)
    removed[tuple(slice(2, -2) for _ in spatial)] = True
    filled = faithfulness.impute(ramp, removed, np.random.default_rng(0))
    np.testing.assert_array_equal(filled[~removed], ramp[~removed])
    assert np.abs(filled[removed] - ramp[removed]).max() < 4 * faithfulness.ROAD_NOISE
    assert np.all(filled[removed] != ramp[removed])


def test_an_image_without_remaining_pixels_becomes_its_mean():
    image = np.full((4, 4, 3), [10, 20, 30], "float32")
    filled = faithfulness.impute(image, np.ones((4, 4), bool), np.random.default_rng(0))
    np.testing.assert_allclose(filled.mean(axis=(0, 1)), [10, 20, 30], atol=4)


def test_imputed_voxels_are_the_mean_of_their_neighbours():
    rng = np.random.default_rng(0)
    volume = rng.uniform(0, 255, (6, 7, 8, 2))
    removed = rng.random((6, 7, 8)) < 0.7
    noise = np.random.default_rng(1).normal(0, faithfulness.ROAD_NOISE, (removed.sum(), 2))
    filled = volume.copy()
    filled[removed] = faithfulness.impute(volume, removed, np.random.default_rng(1))[removed] - noise
    footprint = ndimage.generate_binary_structure(3, 2).astype(float)
    weights = (footprint + ndimage.generate_binary_structure(3, 1)) / 2
    weights[1, 1, 1] = 0
    total = ndimage.convolve(np.ones(removed.shape), weights, mode="constant")
    for channel in range(2):
        mean = ndimage.convolve(filled[..., channel], weights, mode="constant") / total
        inside = removed & (filled[..., channel] > 8) & (filled[..., channel] < 247)  # The others may be clipped.
        np.testing.assert_allclose(filled[..., channel][inside], mean[inside], atol=1.5)


def test_similarity_of_heatmaps():
    same = faithfulness.similarity(LEFT, LEFT)
    assert same == faithfulness.Similarity(pytest.approx(1.0), 1.0)
    other = faithfulness.similarity(LEFT, LEFT[:, :, ::-1])
    assert other == faithfulness.Similarity(pytest.approx(0.0), 0.0)
    zeros = np.zeros_like(LEFT)
    assert faithfulness.similarity(zeros, zeros).cosine == 1.0
    assert faithfulness.similarity(LEFT, zeros).cosine == 0.0


def test_rank_correlation_with_a_constant_map_is_zero():
    assert faithfulness.rank_correlation(LEFT, LEFT) == pytest.approx(1.0)
    assert faithfulness.rank_correlation(LEFT, 1 - LEFT) == pytest.approx(-1.0)
    assert faithfulness.rank_correlation(LEFT, np.zeros_like(LEFT)) == 0.0


def test_random_heatmaps_are_smooth_and_differ():
    maps = faithfulness.random_heatmaps(3, (28, 28))
    assert maps.shape == (3, 28, 28)
    assert 0 <= maps.min() <= maps.max() <= 1
    assert np.abs(np.diff(maps, axis=2)).mean() < 0.15
    assert abs(faithfulness.rank_correlation(maps[:1], maps[1:2])) < 0.6


def test_the_command_line_knows_every_method():
    from keras_vision import explanation
    from keras_vision.recipe import EXPLANATION_METHODS

    assert tuple(explanation.METHODS) == EXPLANATION_METHODS
