"""Learning-rate range test: a few steps at rising rates show which rates a network learns at; it is not changed."""

import sys
from typing import Any, Literal

import keras
import numpy as np

from keras_vision.training.borrowing import borrowed, endless
from keras_vision.training.native_operations import native_operations
from keras_vision.training.rate_curve import MIN_POINTS, RateCurve, RunningLoss, read_curve

SWEEPS = {"exponential": np.geomspace, "linear": np.linspace}


def range_test(
    model: keras.Model,
    batches: Any,
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
    sweep: str = "exponential",
    smoothing: float = 0.8,
    divergence: float = 4.0,
    class_weight: dict[int, float] | None = None,
    verbose: bool | Literal["auto"] = "auto",
    native: bool = True,
) -> RateCurve:
    """Trains for some steps at rising learning rates, reads the losses, and restores the model.

    A second optimizer with the settings of the model's own and empty slots takes the steps, as at the start of a
    `fit`. The model's optimizer is not used; weights, statistics, random seeds, metrics and gradients of the model are
    restored, also after an error or an interrupt.

    Two rates are suggested. *Steepest fall*: the smoothed loss falls most from one step to the next. *Valley*: fastai's
    default, two thirds along the longest fall of the loss, which is steep and still far from the minimum (fastai's
    documentation has two thirds, its code half; this is two thirds).

    Args:
        model: A compiled and built `keras.Model`, with any loss and any Keras optimizer, schedule or not.
        batches: A `keras.utils.PyDataset`, or an iterable that can be restarted, of `(images, labels)` or
            `(images, labels, sample weights)`. It is restarted when it ends, each time with `start_epoch(number)` if
            it has that method, and finally with `start_epoch(0)`.
        low: First learning rate, above 0 (0 itself for a linear sweep).
        high: Last learning rate, above `low`.
        steps: Number of rates, `low` and `high` included; 10 or more.
        sweep: `exponential` for equal ratios, `linear` for equal differences.
        smoothing: Weight of a neighbouring loss relative to the loss itself, squared for the next one; in `[0, 1)`.
        divergence: The sweep stops when the running average of the loss is above this multiple of its lowest value;
            above 1.
        class_weight: `{class: weight}`, as `keras.Model.fit` takes it.
        verbose: Whether to show Keras's progress bar; `"auto"` shows it on a terminal.
        native: Whether to use native operations, as `fit` does, see `native_operations`.

    Raises:
        ValueError: If the model is not compiled or built, the batches cannot be restarted, or an argument is out of
            range.

    Reference:
        Smith 2017, https://arxiv.org/abs/1506.01186, section 3.3.
    """
    _check(model, low, high, steps, sweep, smoothing, divergence)
    rates, losses = SWEEPS[sweep](low, high, steps), []
    running = RunningLoss(smoothing, divergence)
    bar = keras.utils.Progbar(steps) if (sys.stdout.isatty() if verbose == "auto" else verbose) else None
    with native_operations(model, enabled=native), borrowed(model) as optimizer, endless(batches) as stream:
        # With gradient accumulation, the weights change only every so many batches.
        every = getattr(optimizer, "inner_optimizer", optimizer).gradient_accumulation_steps or 1
        # A batch's loss is measured before its step, so the loss of a rate is that of the next batch.
        for number, rate in enumerate([*rates, rates[-1]]):
            optimizer.learning_rate = float(rate)
            loss = float(np.mean([_step(model, next(stream), class_weight) for _ in range(every)]))
            losses.append(loss)
            if bar:
                bar.update(number, [("loss", loss)], finalize=False)
            if diverged := running.ran_away(loss):
                break
    if bar:
        print()
    after = losses[1:]
    return read_curve(
        rates[: len(after)], after, sweep=sweep, smoothing=smoothing, divergence=divergence, diverged=diverged
    )


def _check(model, low, high, steps, sweep, smoothing, divergence):
    if getattr(model, "optimizer", None) is None or not model.built:
        raise ValueError("A range test needs a model that is compiled and built. Received one that is not.")
    if sweep not in SWEEPS:
        raise ValueError(f"A sweep is one of {', '.join(SWEEPS)}. Received: sweep={sweep!r}.")
    if not (0 < low < high or (low == 0 < high and sweep == "linear")) or not np.isfinite(high):
        raise ValueError(f"A sweep goes from a low rate, above 0, to a high one. Received: low={low}, high={high}.")
    if steps < MIN_POINTS:
        raise ValueError(f"A range test takes {MIN_POINTS} steps or more. Received: steps={steps}.")
    if not 0 <= smoothing < 1 or not divergence > 1:
        raise ValueError(
            "Smoothing is from 0 to less than 1, and divergence a factor above 1. "
            f"Received: smoothing={smoothing}, divergence={divergence}."
        )


def _step(model, batch, class_weight):
    return model.train_on_batch(*batch, class_weight=class_weight, return_dict=True)["loss"]
