"""Suggestions from a sweep's losses, on curves with a known result."""

import io

import numpy as np
import pytest

from keras_vision.training import read_curve

RATES = np.geomspace(1e-5, 1, 51)


def plateau_and_valley(noise=0.0, seed=0):
    """Flat up to 1e-4, a linear fall to 1e-2, flat to 1e-1, then rising; a step is a tenth of a decade."""
    losses = np.interp(np.log10(RATES), [-5, -4, -2, -1, 0], [2.0, 2.0, 0.5, 0.5, 2.5])
    return losses + np.random.default_rng(seed).normal(0, noise, len(RATES))


def test_without_smoothing_the_suggestions_are_those_computed_by_hand():
    # Lowest at 1e-2, 20 steps after the start of the fall at 1e-4: two thirds of 20 are 13 steps, 1.3 decades.
    losses = plateau_and_valley()
    losses[17] -= 0.04  # The step to this point is the steepest; it starts at 1e-5 * 10**1.6.
    curve = read_curve(RATES, losses, smoothing=0.0)
    assert curve.valley == pytest.approx(10**-2.7)
    assert curve.steepest == pytest.approx(10**-3.4)
    # Losses above four times the lowest have diverged and are clipped.
    assert curve.smoothed == tuple(np.minimum(losses, 4 * 0.5))


def test_smoothing_is_the_mean_of_neighbours_weighted_by_distance():
    losses = [4.0] * 12
    losses[5] = 8.0
    smoothed = read_curve(RATES[:12], losses, smoothing=0.5, divergence=100).smoothed
    weights = 0.5 ** np.abs(np.arange(12) - 5.0)
    assert smoothed[5] == pytest.approx(4 + 4 / weights.sum())
    assert smoothed[6] - 4 == pytest.approx((smoothed[4] - 4), rel=0.1)
    assert smoothed[11] - 4 == pytest.approx(4 * 0.5**6 / (2 - 0.5**11))


@pytest.mark.parametrize("seed", range(10))
def test_noise_keeps_the_suggestions_in_the_fall(seed):
    curve = read_curve(RATES, plateau_and_valley(noise=0.05, seed=seed))
    assert 1e-4 < curve.steepest < 2e-2
    assert 1e-4 < curve.valley < 2e-2
    assert not curve.remark


def test_a_small_bump_does_not_end_the_fall():
    losses = plateau_and_valley()
    losses[20] = losses[18]
    assert read_curve(RATES, losses, smoothing=0.0).valley == pytest.approx(10**-2.7, rel=0.3)


def test_a_recovery_from_a_jump_is_not_suggested():
    losses = plateau_and_valley()
    losses[45] = 9.0
    assert read_curve(RATES, losses, smoothing=0.0, divergence=100).steepest < 1e-2


def test_a_jump_at_the_end_does_not_change_the_curve_before_it():
    losses = plateau_and_valley()
    calm = read_curve(RATES, losses)
    losses[-1] = 1e30
    jumping = read_curve(RATES, losses, diverged=True)
    assert (jumping.steepest, jumping.valley) == (calm.steepest, calm.valley)
    assert max(jumping.smoothed) < 4 * max(calm.smoothed)
    assert jumping.losses[-1] == 1e30


def test_points_end_before_the_first_loss_that_is_not_finite():
    losses = plateau_and_valley()
    losses[40:] = np.nan
    curve = read_curve(RATES, losses, diverged=True)
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) == 40
    assert 1e-4 < curve.valley < 1e-2


@pytest.mark.parametrize("smoothing", [0.5, 0.8, 0.95])
def test_pure_noise_suggests_nothing(smoothing):
    rng = np.random.default_rng(0)
    curves = [read_curve(RATES, 2 + 0.1 * rng.normal(size=len(RATES)), smoothing=smoothing) for _ in range(300)]
    suggesting = [curve for curve in curves if curve.valley is not None]
    assert len(suggesting) <= 3
    assert all("never fell clearly" in curve.remark for curve in curves if curve not in suggesting)


def test_a_constant_or_a_rising_loss_suggests_nothing():
    for losses in (np.ones(20), np.linspace(1, 2, 20)):
        curve = read_curve(RATES[:20], losses)
        assert (curve.steepest, curve.valley) == (None, None)
        assert "never fell" in curve.remark
        assert "is inconclusive about" in curve.advice(0.1)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_points_are_reported(count):
    curve = read_curve(RATES[:count], np.linspace(2, 1, count), diverged=True)
    assert (curve.steepest, curve.valley) == (None, None)
    assert f"diverged after {count} steps" in curve.summary()
    curve.plot(1e-3).savefig(io.BytesIO())


def test_a_loss_that_falls_to_the_end_is_remarked_on():
    curve = read_curve(RATES, np.linspace(2, 1, len(RATES)))
    assert curve.valley is not None
    assert "still fell at the highest rate" in curve.summary()


def test_negative_losses_have_the_same_suggestions():
    curve, shifted = read_curve(RATES, plateau_and_valley()), read_curve(RATES, plateau_and_valley() - 10)
    assert (shifted.steepest, shifted.valley) == (curve.steepest, curve.valley)


def test_advice_compares_with_the_suggestions():
    curve = read_curve(RATES, plateau_and_valley(), smoothing=0.0)
    low, high = sorted((curve.steepest, curve.valley))
    assert "is low" in curve.advice(low / 5)
    assert "is high" in curve.advice(high * 5)
    for rate in (low, high, low / 3, high * 3):
        assert "agrees with the range test" in curve.advice(rate)


def test_the_plot_shows_the_curve_and_the_rates():
    curve = read_curve(RATES, plateau_and_valley(0.02), diverged=True)
    (axes,) = curve.plot(0.003).axes
    assert axes.get_xscale() == "log"
    labels = " ".join(text.get_text() for text in axes.get_legend().get_texts())
    for rate in (curve.steepest, curve.valley, 0.003):
        assert f"{rate:.2g}" in labels
    assert read_curve(RATES, plateau_and_valley(), sweep="linear").plot().axes[0].get_xscale() == "linear"


def test_the_points_are_written_as_csv():
    curve = read_curve(RATES, plateau_and_valley())
    lines = curve.to_csv().splitlines()
    assert lines[0] == "learning_rate,loss,smoothed_loss"
    assert len(lines) == 1 + len(RATES)
    assert [float(cell) for cell in lines[1].split(",")] == [curve.rates[0], curve.losses[0], curve.smoothed[0]]
