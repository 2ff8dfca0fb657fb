"""What a learning-rate range test saw: loss over learning rate, the rates that it suggests, the picture of it."""

import csv
import io
import math
from dataclasses import dataclass

import numpy as np

MIN_POINTS = 10
# Of 1,000 sweeps of noise alone fewer than ten fall by so many standard errors, for 30 to 300 steps and a smoothing
# from .5 to .95; without smoothing it is 2 in 100.
CLEAR_FALL = 5.0
# Half an order of magnitude: a range test tells no more.
ABOUT = math.sqrt(10)


@dataclass(frozen=True)
class RateCurve:
    """Loss over learning rate, and what to read from it. Numbers are finite throughout.

    Attributes:
        rates: Learning rates of the steps, rising, N of them.
        losses: Loss of the batch that followed the step with each rate, N.
        smoothed: The same, smoothed, N.
        sweep: `exponential` or `linear`.
        steepest: Rate at which the smoothed loss fell fastest per step; None where there is nothing to suggest.
        valley: Rate two thirds along the longest fall of the smoothed loss; None likewise.
        diverged: Whether the sweep was cut short because the loss ran away.
        remark: Why there is no suggestion, or what to doubt about it; empty else.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    sweep: str
    steepest: float | None
    valley: float | None
    diverged: bool
    remark: str

    def summary(self):
        """The outcome in one or two lines of text."""
        if not self.rates:
            return self.remark
        end = "where the loss ran away" if self.diverged else "without running away"
        lines = [f"Rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}, {end}."]
        if self.valley is not None:
            lines.append(f"Steepest fall of the loss at {self.steepest:.2g}, valley at {self.valley:.2g}.")
        return " ".join([*lines, self.remark]).strip()

    def advice(self, rate):
        """One sentence about a learning rate that is in use, or about to be.

        Args:
            rate: Learning rate, above 0.
        """
        if self.steepest is None or self.valley is None:
            return f"The range test is inconclusive about {rate:.2g}."
        low, high = sorted((self.steepest, self.valley))
        if rate < low / ABOUT:
            return f"{rate:.2g} is low: it learns, but slowly; try {low:.2g} to {high:.2g}."
        if rate > high * ABOUT:
            return f"{rate:.2g} is high: it may be unstable; try {low:.2g} to {high:.2g}."
        return f"{rate:.2g} is where it should be, as far as a range test can tell."

    def to_csv(self):
        """A table with a row a step, as CSV text."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["learning_rate", "loss", "smoothed_loss"])
        writer.writerows(zip(self.rates, self.losses, self.smoothed, strict=True))
        return text.getvalue()

    def plot(self, rate=None):
        """The curve with its suggestions, as a matplotlib figure.

        Args:
            rate: A learning rate in use, to be shown beside the suggestions.
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
            # Single losses may be millions where the sweep ran away; those lie beyond the upper edge.
            before = self.losses[: int(np.argmin(self.smoothed)) + 1]
            bottom, top = min(self.losses), max(*self.smoothed, *before)
            margin = 0.05 * (top - bottom) or 1.0
            axes.set_ylim(bottom - margin, top + margin)
        axes.set(xlabel="learning rate", ylabel="loss of the next batch")
        axes.set_title(self.remark, fontsize=8, wrap=True)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.25)
        return figure


def read_curve(rates, losses, *, sweep="exponential", smoothing=0.8, divergence=4.0, diverged=False):
    """Smooths a sweep's losses and reads the two suggestions from them.

    Where the loss falls is looked for up to its lowest point only: what falls after that falls back from a leap.

    Args:
        rates: Learning rates, rising, N of them.
        losses: Loss after the step with each rate, N; what follows the first that is not finite is left out.
        sweep, smoothing, divergence: As in `training.range_test`.
        diverged: Whether the sweep was cut short.

    Returns:
        A `RateCurve`.
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
            remark = "The loss still fell at the highest rate: a sweep to a higher one would tell more."
    rates, losses, smoothed = (tuple(map(float, values)) for values in (rates, losses, smoothed))
    return RateCurve(rates, losses, smoothed, sweep, steepest, valley, diverged, remark)


class RunningLoss:
    """Tells, loss by loss, when a sweep has run away: the running average is above a multiple of its lowest value.

    A multiple is counted from zero; a loss that can be negative has it counted as a distance from its lowest value.
    """

    def __init__(self, smoothing, divergence):
        self.smoothing, self.divergence = smoothing, divergence
        self._sum = self._weight = 0.0
        self.ceiling = math.inf

    def ran_away(self, loss):
        """Takes the next loss in; whether it is no number, or lifted the average above the ceiling."""
        if not math.isfinite(loss):
            return True
        # Divided by the weights' sum, as Adam's averages are: the first losses count in full.
        self._sum = self.smoothing * self._sum + loss
        self._weight = self.smoothing * self._weight + 1
        average = self._sum / self._weight
        self.ceiling = min(self.ceiling, average + (self.divergence - 1) * abs(average))
        return average > self.ceiling


def _ceiling(losses, smoothing, divergence):
    """Above it a loss has run away, by how much says nothing; smoothed as it is, it would lift all points before it."""
    running = RunningLoss(smoothing, divergence)
    for loss in losses:
        running.ran_away(loss)
    return running.ceiling


def _smooth(losses, smoothing):
    """Weighted means of shape `(N,)`, the weights falling as `smoothing ** distance` to both sides.

    A running average looks back alone, so that its curve lags: by four steps at .8, where a step is 20 % of a rate.
    """
    places = np.arange(len(losses))
    weights = smoothing ** np.abs(places[:, np.newaxis] - places)
    return weights @ losses / weights.sum(axis=1) if len(losses) else losses


def _objection(losses, smoothed, smoothing, diverged):
    """Why nothing can be suggested; empty when something can."""
    count = len(losses)
    if count < MIN_POINTS and diverged:
        return f"The loss ran away after {count} steps, too few to read a curve from: begin at a lower rate."
    if count < MIN_POINTS:
        return f"{count} steps are too few to read a curve from: take {MIN_POINTS} or more."
    # From differences of neighbours, so that the curve itself does not count as noise; 1.4826 makes a median absolute
    # deviation a standard deviation, and the root is what smoothing leaves of it at the curve's ends.
    noise = 1.4826 * np.median(np.abs(np.diff(losses))) / math.sqrt(2)
    rounding = np.finfo(np.float32).eps * abs(smoothed[0])
    error = noise * math.sqrt((1 - smoothing) / (1 + smoothing)) + rounding
    if smoothed[0] - smoothed.min() <= CLEAR_FALL * error:
        return "The loss never fell clearly below where it began, so no rate stands out: take more steps."
    return ""


def _valley(smoothed):
    """Index two thirds along the longest fall, which ends at the lowest point: the last one given.

    The fall's length is that of the longest subsequence of falling losses, so that small bumps do not end it.
    """
    lengths = np.ones(len(smoothed), int)
    for place in range(1, len(smoothed)):
        higher = lengths[:place][smoothed[:place] > smoothed[place]]
        lengths[place] = 1 + higher.max(initial=0)
    steps = lengths[-1] - 1
    return len(smoothed) - 1 - steps + round(steps * 2 / 3)
