"""The result of a learning-rate range test: loss over learning rate, suggested rates, plot."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_POINTS = 10
# In standard errors: of 1,000 sweeps of pure noise, fewer than 10 fall as far, for 30 to 300 steps and a smoothing of
# 0.5 to 0.95; without smoothing 2 in 100.
CLEAR_FALL = 5.0
# Half an order of magnitude: the precision of a range test.
ABOUT = math.sqrt(10)


@dataclass(frozen=True)
class RateCurve:
    """Loss over learning rate, and the suggested rates. All numbers are finite.

    Attributes:
        rates: Learning rates of the steps, rising, N of them.
        losses: Loss of the batch after the step with each rate, N.
        smoothed: Smoothed losses, N.
        sweep: `exponential` or `linear`.
        steepest: Rate at which the smoothed loss fell fastest per step; None without a suggestion.
        valley: Rate two thirds along the longest fall of the smoothed loss; None without a suggestion.
        diverged: Whether the sweep stopped early because the loss diverged.
        remark: Why there is no suggestion, or a doubt about it; else empty.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    sweep: str
    steepest: float | None
    valley: float | None
    diverged: bool
    remark: str

    def summary(self) -> str:
        """The result in one or two sentences."""
        if not self.rates:
            return self.remark
        end = "where the loss diverged" if self.diverged else "without divergence"
        lines = [f"Rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}, {end}."]
        if self.valley is not None:
            lines.append(f"Steepest fall of the loss at {self.steepest:.2g}, valley at {self.valley:.2g}.")
        return " ".join([*lines, self.remark]).strip()

    def advice(self, rate: float) -> str:
        """One sentence about a learning rate.

        Args:
            rate: Learning rate, above 0.
        """
        if self.steepest is None or self.valley is None:
            return f"The range test is inconclusive about {rate:.2g}."
        low, high = sorted((self.steepest, self.valley))
        if rate < low / ABOUT:
            return f"{rate:.2g} is low, so training is slow; try {low:.2g} to {high:.2g}."
        if rate > high * ABOUT:
            return f"{rate:.2g} is high, so training may be unstable; try {low:.2g} to {high:.2g}."
        return f"{rate:.2g} agrees with the range test."

    def to_csv(self) -> str:
        """CSV text with one row per step."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["learning_rate", "loss", "smoothed_loss"])
        writer.writerows(zip(self.rates, self.losses, self.smoothed, strict=True))
        return text.getvalue()

    def plot(self, rate: float | None = None) -> Any:
        """A `matplotlib.figure.Figure` of the curve with the suggested rates.

        Args:
            rate: A learning rate in use, shown as well.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, ".", color="C0", alpha=0.35, label="each batch")
        axes.plot(self.rates, self.smoothed, color="C0", label="smoothed")
        marks = {"steepest fall": self.steepest, "valley": self.valley, "recipe": rate}
        for (name, value), style in zip(marks.items(), ("C1-", "C2-", "k:"), strict=True):
            if value is not None:
                axes.axvline(value, color=style[:-1], linestyle=style[-1], label=f"{name}, {value:.2g}")
        if self.sweep == "exponential":
            axes.set_xscale("log")
        if self.rates:
            # After divergence single losses may be millions; the plot leaves them out.
            before = self.losses[: int(np.argmin(self.smoothed)) + 1]
            bottom, top = min(self.losses), max(*self.smoothed, *before)
            margin = 0.05 * (top - bottom) or 1.0
            axes.set_ylim(bottom - margin, top + margin)
        axes.set(xlabel="learning rate", ylabel="loss of the next batch")
        axes.set_title(self.remark, fontsize=8, wrap=True)
        axes.legend(fontsize=8, loc="lower left")
        axes.grid(alpha=0.25)
        return figure


def read_curve(
    rates: Sequence[float] | np.ndarray,
    losses: Sequence[float] | np.ndarray,
    *,
    sweep: str = "exponential",
    smoothing: float = 0.8,
    divergence: float = 4.0,
    diverged: bool = False,
) -> RateCurve:
    """Smooths a sweep's losses and finds the two suggested rates.

    Only the curve up to its lowest point counts: a fall after it is a recovery from a jump.

    Args:
        rates: Learning rates, rising, N of them.
        losses: Loss after the step with each rate, N; all from the first that is not finite are left out.
        sweep, smoothing, divergence: As in `training.range_test`.
        diverged: Whether the sweep stopped early.
    """
    finite = np.isfinite(np.asarray(losses, float))
    count = len(finite) if finite.all() else int(finite.argmin())
    rates, losses = np.asarray(rates, float)[:count], np.asarray(losses, float)[:count]
    smoothed = _smooth(np.minimum(losses, _ceiling(losses, smoothing, divergence)), smoothing)
    remark = _objection(losses, smoothed, smoothing, diverged)
    steepest = valley = None
    if not remark:
        lowest = int(smoothed.argmin())
        steepest = float(rates[np.diff(smoothed[: lowest + 1]).argmin()])
        valley = float(rates[_valley(smoothed[: lowest + 1])])
        if lowest == count - 1 and not diverged:
            remark = "The loss still fell at the highest rate: sweep to a higher one."
    points = [tuple(map(float, values)) for values in (rates, losses, smoothed)]
    return RateCurve(points[0], points[1], points[2], sweep, steepest, valley, diverged, remark)


class RunningLoss:
    """Detects divergence, loss by loss: the running average is above a multiple of its lowest value.

    For a negative average the ceiling is the same distance above it as for a positive one of that size.
    """

    def __init__(self, smoothing: float, divergence: float):
        self.smoothing, self.divergence = smoothing, divergence
        self._sum = self._weight = 0.0
        self.ceiling = math.inf

    def ran_away(self, loss: float) -> bool:
        """Adds the next loss; whether it is not finite or raised the average above the ceiling."""
        if not math.isfinite(loss):
            return True
        # Divided by the sum of the weights, as Adam's averages are, so that the first losses count fully.
        self._sum = self.smoothing * self._sum + loss
        self._weight = self.smoothing * self._weight + 1
        average = self._sum / self._weight
        self.ceiling = min(self.ceiling, average + (self.divergence - 1) * abs(average))
        return average > self.ceiling


def _ceiling(losses, smoothing, divergence):
    """The limit for losses: a larger one has diverged, and smoothing it would raise all points before it."""
    running = RunningLoss(smoothing, divergence)
    for loss in losses:
        running.ran_away(loss)
    return running.ceiling


def _smooth(losses, smoothing):
    """Weighted means, shape `(N,)`, with weights `smoothing ** distance` on both sides.

    A running average only looks back, so its curve lags: by 4 steps at 0.8, with steps of 20 % of the rate.
    """
    places = np.arange(len(losses))
    weights = smoothing ** np.abs(places[:, np.newaxis] - places)
    return weights @ losses / weights.sum(axis=1) if len(losses) else losses


def _objection(losses, smoothed, smoothing, diverged):
    """Why there is no suggestion; empty if there is one."""
    count = len(losses)
    if count < MIN_POINTS and diverged:
        return f"The loss diverged after {count} steps, too few for a curve: start at a lower rate."
    if count < MIN_POINTS:
        return f"{count} steps are too few for a curve: use {MIN_POINTS} or more."
    # From differences of neighbours, so that the curve itself does not count as noise; 1.4826 turns a median absolute
    # deviation into a standard deviation, and the root is its reduction by smoothing at the curve's ends.
    noise = 1.4826 * np.median(np.abs(np.diff(losses))) / math.sqrt(2)
    rounding = np.finfo(np.float32).eps * abs(smoothed[0])
    error = noise * math.sqrt((1 - smoothing) / (1 + smoothing)) + rounding
    if smoothed[0] - smoothed.min() <= CLEAR_FALL * error:
        return "The loss never fell clearly below its first value, so there is no suggestion: use more steps."
    return ""


def _valley(smoothed):
    """Index two thirds along the longest fall, which ends at the last point, the lowest.

    The fall's length is that of the longest decreasing subsequence, so small bumps do not end it.
    """
    lengths = np.ones(len(smoothed), int)
    for place in range(1, len(smoothed)):
        higher = lengths[:place][smoothed[:place] > smoothed[place]]
        lengths[place] = 1 + higher.max(initial=0)
    steps = lengths[-1] - 1
    return len(smoothed) - 1 - steps + round(steps * 2 / 3)
