"""Where an epoch's time goes: waiting for data, training steps, validation, callbacks."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from scipy import stats

from keras_vision.training.borrowing import borrowed, endless, one_epoch
from keras_vision.training.native_operations import native_operations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WARM_UP = 3


@dataclass(frozen=True)
class Profile:
    """Where the time of one epoch goes. All times are in milliseconds.

    Attributes:
        waiting: Making the batch, for each of N measured steps.
        step: The training step itself, N, from a batch in NumPy arrays to a loss as a number.
        step_callbacks: Callbacks before and after the step, N.
        validation: One complete validation; 0 without validation data.
        epoch_callbacks: Callbacks at the beginning and the end of an epoch.
        steps_per_epoch: Steps over which validation and epoch callbacks are spread.
    """

    waiting: tuple[float, ...]
    step: tuple[float, ...]
    step_callbacks: tuple[float, ...]
    validation: float
    epoch_callbacks: float
    steps_per_epoch: int

    @property
    def milliseconds(self) -> dict[str, float]:
        """Mean milliseconds per training step of each part, the validation spread over the steps of an epoch."""
        return {
            "waiting for data": float(np.mean(self.waiting)),
            "training step": float(np.mean(self.step)),
            "validation": self.validation / self.steps_per_epoch,
            "callbacks": float(np.mean(self.step_callbacks)) + self.epoch_callbacks / self.steps_per_epoch,
        }

    @property
    def shares(self) -> dict[str, float]:
        """Share of each part in the time of an epoch."""
        total = sum(self.milliseconds.values()) or 1.0
        return {part: value / total for part, value in self.milliseconds.items()}

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch."""
        return sum(self.milliseconds.values()) * self.steps_per_epoch / 1000

    @property
    def steps_per_second(self) -> float:
        """Training steps per second, validation and callbacks included."""
        return self._rate(sum(self.milliseconds.values()))

    @property
    def possible_steps_per_second(self) -> float:
        """The same if no step waited for its batch."""
        return self._rate(sum(self.milliseconds.values()) - self.milliseconds["waiting for data"])

    @staticmethod
    def _rate(milliseconds):
        return 1000 / milliseconds if milliseconds > 0 else math.inf

    @property
    def input_is_bottleneck(self) -> bool:
        """Whether waiting takes more than half of the time, with the 95 % interval over the steps clear of half.

        Half is also where the pipeline limits a `fit` that makes batches in another thread while a step runs.
        """
        excess = self._excess()
        if len(excess) < 2:
            return False
        error = float(np.std(excess, ddof=1)) / math.sqrt(len(excess))
        return float(np.mean(excess)) > float(stats.t.ppf(0.975, len(excess) - 1)) * error

    def _excess(self):
        """By how much each step's waiting exceeds everything else."""
        every_step = (self.validation + self.epoch_callbacks) / self.steps_per_epoch
        return np.array(self.waiting) - np.array(self.step) - np.array(self.step_callbacks) - every_step

    def table(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """The head of a table and its rows, as text."""
        rows: list[Sequence[str]] = [
            (part, f"{value:.2f}", f"{self.shares[part]:.1%}") for part, value in self.milliseconds.items()
        ]
        rows.append(("total", f"{sum(self.milliseconds.values()):.2f}", "100.0%"))
        return ("part of an epoch", "ms per step", "share"), rows

    def summary(self) -> str:
        """The result in two sentences."""
        parts = ", ".join(f"{part} {share:.0%}" for part, share in self.shares.items())
        speeds = f"{self.possible_steps_per_second:.3g} steps per second instead of {self.steps_per_second:.3g}"
        first = f"An epoch of {self.steps_per_epoch} steps takes {self.epoch_seconds:.3g} s: {parts}."
        if self.input_is_bottleneck:
            return f"{first} The input pipeline is the bottleneck: without waiting it would be {speeds}."
        if float(np.mean(self._excess())) > 0:
            return (
                f"{first} More than half of it is waiting for data, but the {len(self.waiting)} measured steps vary "
                f"too much to be sure. Without waiting it would be {speeds}."
            )
        return f"{first} The input pipeline is not the bottleneck: without waiting it would be {speeds}."

    def plot(self) -> "Figure":
        """The shares as one horizontal stacked bar, a matplotlib figure."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 1.7), layout="constrained")
        axes = figure.subplots()
        left = 0.0
        for part, value in self.milliseconds.items():
            share = self.shares[part]
            bar = axes.barh([0], [value], left=left, label=f"{part} {share:.0%}")
            if share > 0.05:
                axes.bar_label(bar, labels=[f"{value:.3g} ms"], label_type="center", color="white", fontsize=8)
            left += value
        axes.set(xlabel="milliseconds per training step", yticks=[])
        axes.margins(x=0)
        axes.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        return figure

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON-ready values."""
        return {
            "milliseconds_per_step": self.milliseconds,
            "shares": self.shares,
            "steps_per_second": self.steps_per_second,
            "possible_steps_per_second": self.possible_steps_per_second,
            "epoch_seconds": self.epoch_seconds,
            "steps_per_epoch": self.steps_per_epoch,
            "measured_steps": len(self.waiting),
            "input_is_bottleneck": self.input_is_bottleneck,
        }


def profile(
    model: keras.Model,
    batches: Any,
    *,
    val: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    steps: int | None = None,
    native: bool = True,
) -> Profile:
    """Measures where the time of an epoch goes, and leaves everything as it was.

    One after the other, a batch is made, the model takes a training step, and the step's loss is read, which waits
    until the device is done. Compilation is not counted: three steps come first, and a batch of a new shape is used
    once before it is measured. Steps are taken at a learning rate of 0; weights, optimizer, random seeds, metrics and
    gradients of the model get their values back, also when the measurement fails or is interrupted.

    On TensorFlow, `fit` makes batches in another thread where that takes long, see `direct_batches`: it waits for less
    than what is measured here, unless making a batch takes longer than everything else.

    Args:
        model: A compiled and built `keras.Model`.
        batches: A `keras.utils.PyDataset`, or anything that can be iterated repeatedly, of `(images, labels)` or
            `(images, labels, sample weights)`. Each epoch begins with `start_epoch(number)` where it has that, and
            afterwards it is at `start_epoch(0)`.
        val: The same for the validation; None for an epoch without one.
        callbacks: `keras.callbacks.Callback`s, called as in `fit`. What they change outside of the model stays.
        steps: Steps to measure; None for one epoch.
        native: Whether to use native operations, as `fit` does, see `native_operations`.

    Returns:
        A `Profile`.

    Raises:
        ValueError: If the model is not compiled or built, there are no batches, or `steps` is less than 1.
    """
    if getattr(model, "optimizer", None) is None or not model.built:
        raise ValueError("A profile needs a model that is compiled and built. Received one that is not.")
    if isinstance(batches, Iterator) or isinstance(val, Iterator):
        raise ValueError("A profile needs batches that are iterable repeatedly. Received: an iterator.")
    if steps is not None and steps < 1:
        raise ValueError(f"A profile takes 1 step or more. Received: steps={steps}.")
    with native_operations(model, enabled=native), borrowed(model):
        return _measure(model, batches, val, callbacks, steps, time.perf_counter)


def _measure(model: Any, batches, val, callbacks, steps, clock: Callable[[], float]):
    """The profile by a clock that counts seconds."""

    def timed(function, *arguments):
        started = clock()
        result = function(*arguments)
        return result, 1000 * (clock() - started)

    train, test = _Step(model.train_on_batch), _Step(model.test_on_batch)
    called: Any = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=1, verbose=0)
    called.on_train_begin()
    waiting, step, step_callbacks = [], [], []
    with endless(batches) as stream:
        for _ in range(WARM_UP):
            train(next(stream))
        source = one_epoch(batches, 0) if steps is None else itertools.islice(stream, steps)
        begin = timed(called.on_epoch_begin, 0)[1]
        for number in itertools.count():
            batch, made = timed(next, source, None)
            if batch is None:
                break
            train.prepare(batch)
            before = timed(called.on_train_batch_begin, number)[1]
            logs, trained = timed(train, batch)
            after = timed(called.on_train_batch_end, number, logs)[1]
            waiting.append(made)
            step.append(trained)
            step_callbacks.append(before + after)
    validation, val_logs = _validate(test, val, timed)
    end = timed(called.on_epoch_end, 0, {**logs, **val_logs})[1]
    called.on_train_end()
    per_epoch = len(batches) if hasattr(batches, "__len__") else len(step)
    return Profile(tuple(waiting), tuple(step), tuple(step_callbacks), validation, begin + end, per_epoch)


def _validate(test, val, timed):
    """Milliseconds of a validation, and the last batch's metrics for the callbacks."""
    if val is None:
        return 0.0, {}
    source, total, logs = one_epoch(val, 0), 0.0, {}
    while True:
        batch, made = timed(next, source, None)
        if batch is None:
            return total, {f"val_{name}": value for name, value in logs.items()}
        test.prepare(batch)
        logs, tested = timed(test, batch)
        total += made + tested


class _Step:
    """A step that ends when its loss is a number.

    Args:
        function: `train_on_batch` or `test_on_batch` of a model.
    """

    def __init__(self, function):
        self.function = function
        self.shapes = set()

    def __call__(self, batch):
        self.shapes.add(_shapes(batch))
        # Metrics of a batch are returned as Python numbers, for which every backend finishes the step.
        return self.function(*batch, return_dict=True)

    def prepare(self, batch):
        """Takes a step if the batch has a shape that is new: the step is compiled for it."""
        if _shapes(batch) not in self.shapes:
            self(batch)


def _shapes(batch):
    return tuple(np.shape(part) for part in batch)
