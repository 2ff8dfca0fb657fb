import math

import numpy as np
import pytest
from scipy import stats

from keras_vision.evaluation import mean_interval, paired_difference


def test_three_seeds_by_hand():
    # Mean 0.8, standard deviation 0.1; t of two degrees of freedom is 4.3027.
    value, low, high = mean_interval([0.7, 0.8, 0.9])
    assert value == pytest.approx(0.8)
    assert (high - low) / 2 == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)


def test_one_seed_has_a_mean_and_no_interval():
    value, low, high = mean_interval([0.7])
    assert value == 0.7
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_paired_test_is_that_of_scipy():
    rng = np.random.default_rng(0)
    first = rng.random(5)
    second = first - 0.05 + 0.01 * rng.random(5)
    difference, p = paired_difference(first, second)
    judge = stats.ttest_rel(first, second)
    assert p == pytest.approx(judge.pvalue)
    assert difference.low == pytest.approx(judge.confidence_interval().low)
    assert difference.value > 0


def test_folds_share_their_training_images_and_are_no_independent_draws():
    # Five folds: the variance is that of the mean, 1 / 5, and 1 / 4 for what they share, as Nadeau and Bengio have it.
    first, second = np.array([0.5, 0.7, 0.6, 0.8, 0.9]), np.array([0.45, 0.6, 0.58, 0.7, 0.89])
    plain, folded = paired_difference(first, second), paired_difference(first, second, folds=5)
    t = stats.ttest_rel(first, second).statistic / math.sqrt((1 / 5 + 1 / 4) * 5)
    assert folded[1] == pytest.approx(2 * stats.t.sf(t, 4))
    assert folded[0].value == plain[0].value
    assert (folded[0].high - folded[0].low) / (plain[0].high - plain[0].low) == pytest.approx(1.5)


def test_pairs_tell_what_means_alone_would_not():
    """Seeds vary by 0.1 and settings by 0.01: paired, that is clear."""
    first = np.array([0.5, 0.6, 0.7, 0.8])
    assert paired_difference(first + np.array([0.011, 0.01, 0.009, 0.01]), first)[1] < 0.001


@pytest.mark.parametrize("values", [([0.5], [0.4]), ([0.5, 0.6], [0.4, 0.5])])
def test_differences_that_do_not_vary_have_no_p(values):
    assert math.isnan(paired_difference(*values)[1])
