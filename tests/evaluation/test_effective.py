"""How many independent images groups of images are worth: by hand, by copies, and by how often intervals are right."""

import numpy as np
import pytest
from scipy.stats import binomtest

from keras_vision import evaluation
from keras_vision.evaluation.effective import effective_count, wilson


def test_the_effective_count_by_hand():
    # Groups of two: two hits, two hits, none, one. The share is 5/8; sums of differences from it 3/4, 3/4, -5/4, -1/4,
    # squares 11/4. Variance 4/3 * 11/4 / 64 = 11/192 against 15/64 / 7 of independent images: 8 * 15/448 * 192/11.
    hits = np.array([1, 1, 1, 1, 0, 0, 1, 0], bool)
    assert effective_count(hits, np.array([0, 0, 1, 1, 2, 2, 3, 3])) == round(8 * 15 / 448 * 192 / 11) == 5


def test_images_of_their_own_count_whole():
    hits = np.random.default_rng(0).random(50) < 0.7
    assert effective_count(hits, None) == effective_count(hits, np.arange(50)) == 50


def test_copies_count_once():
    hits = np.random.default_rng(0).random(40) < 0.7
    assert effective_count(np.repeat(hits, 9), np.repeat(np.arange(40), 9)) in (39, 40)


@pytest.mark.parametrize("hit", [True, False])
def test_where_all_are_alike_each_group_counts_once(hit):
    assert effective_count(np.full(30, hit), np.arange(30) % 6) == 6
    assert effective_count(np.arange(30) % 2 == hit, np.zeros(30, int)) == 1


def test_it_is_never_more_than_the_images():
    # Each group has one hit and one miss: less varies than between independent images.
    assert effective_count(np.arange(20) % 2 == 0, np.arange(20) // 2) == 20


@pytest.mark.parametrize(("hits", "count"), [(0, 9), (9, 9), (17, 40), (580, 600)])
def test_wilsons_interval_is_scipys(hits, count):
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_sensitivity_of_new_patients_is_inside_more_often_with_groups():
    inside = {"image": 0, "group": 0}
    for seed in range(200):
        random = np.random.default_rng(seed)
        found = random.random((40, 8)) < random.beta(2, 1, 40)[:, np.newaxis]  # Of each patient; 2/3 on average.
        labels = np.concatenate([np.ones(320, int), np.zeros(320, int)])
        scores = np.concatenate([found.ravel() * 0.8 + 0.1, np.full(320, 0.1)])
        probabilities = np.stack([1 - scores, scores], axis=1)
        patients = np.concatenate([np.repeat(np.arange(40), 8), np.arange(40, 360)])
        for way, groups in (("image", None), ("group", patients)):
            point = evaluation.operating_point(labels, probabilities, labels, probabilities, 1, groups=groups)
            assert point is not None
            _, low, high = point.half["sensitivity"]
            inside[way] += low <= 2 / 3 <= high
    assert inside["group"] >= 184
    assert inside["image"] <= 160


def test_a_gap_of_few_independent_images_is_not_significant():
    plain = evaluation.accuracy_gap(580, 600, 1066, 1200)
    assert plain.significant
    few = evaluation.accuracy_gap(580, 600, 1066, 1200, effective_first=60, effective_second=100)
    assert not few.significant
    assert (few.first, few.second, few.difference) == (plain.first, plain.second, plain.difference)
    assert few.low < plain.low < plain.high < few.high
    assert evaluation.accuracy_gap(580, 600, 1066, 1200, effective_first=600, effective_second=1200) == plain
