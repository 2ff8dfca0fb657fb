"""The difference of two accuracies: by hand, compared with SciPy, and its invariants."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from keras_vision import evaluation

PAIRS = [(56, 70, 48, 80), (30, 1000, 5, 200), (580, 600, 1066, 1200), (0, 7, 3, 3), (9, 10, 3, 10)]


def test_the_interval_is_that_of_newcombes_example():
    # Newcombe 1998, contrast of 56/70 with 48/80, method 10.
    gap = evaluation.accuracy_gap(56, 70, 48, 80)
    assert (gap.first, gap.second) == (0.8, 0.6)
    assert gap.difference == pytest.approx(0.2)
    assert gap.low == pytest.approx(0.0524, abs=5e-5)
    assert gap.high == pytest.approx(0.3339, abs=5e-5)


def test_p_by_hand():
    # 3 of 4 against 1 of 4: of the 70 ways to choose the 4 correct images of 8, 16 have 3 in the first set, 1 has all
    # 4, and as many have 1 or 0.
    assert evaluation.accuracy_gap(3, 4, 1, 4).p == pytest.approx(2 * (16 + 1) / 70)


@pytest.mark.parametrize("counts", PAIRS)
def test_p_equals_scipys_fisher_test(counts):
    correct_first, count_first, correct_second, count_second = counts
    table = [[correct_first, count_first - correct_first], [correct_second, count_second - correct_second]]
    assert evaluation.accuracy_gap(*counts).p == pytest.approx(fisher_exact(table, alternative="two-sided").pvalue)


@pytest.mark.parametrize("counts", PAIRS)
def test_exchanging_the_sets_changes_only_the_sign(counts):
    gap, exchanged = evaluation.accuracy_gap(*counts), evaluation.accuracy_gap(*counts[2:], *counts[:2])
    assert (exchanged.first, exchanged.second) == (gap.second, gap.first)
    assert exchanged.difference == -gap.difference
    assert (exchanged.low, exchanged.high) == pytest.approx((-gap.high, -gap.low))
    assert exchanged.p == pytest.approx(gap.p)


@pytest.mark.parametrize(
    ("counts", "significant"),
    [
        ((30, 1000, 5, 200), False),  # .030 and .025.
        ((4830, 5000, 580, 600), False),  # .966 and .967.
        ((580, 600, 1066, 1200), True),  # .967 and .888.
        ((90, 100, 77, 100), False),  # p is .02: above .01, although the interval does not contain 0.
    ],
)
def test_only_large_differences_are_significant(counts, significant):
    assert evaluation.accuracy_gap(*counts).significant is significant


@pytest.mark.parametrize(("correct", "count"), [(0, 5), (5, 5), (17, 40)])
def test_equal_counts_have_p_one_and_a_symmetric_interval(correct, count):
    gap = evaluation.accuracy_gap(correct, count, correct, count)
    assert gap.p == pytest.approx(1)
    assert gap.difference == 0
    assert gap.low == pytest.approx(-gap.high)
    assert gap.high > 0
    assert not gap.significant


@st.composite
def counts_of_two_sets(draw):
    counts = [draw(st.integers(1, 3000)) for _ in range(2)]
    return [part for count in counts for part in (draw(st.integers(0, count)), count)]


@settings(deadline=None)
@given(counts_of_two_sets())
def test_the_interval_contains_the_difference_and_nothing_is_out_of_range(counts):
    gap = evaluation.accuracy_gap(*counts)
    assert -1 <= gap.low <= gap.difference <= gap.high <= 1
    assert 0 <= gap.p <= 1
