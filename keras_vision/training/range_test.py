"""Learning-rate range test: a few steps at rising rates show which rates a network learns at; it is not changed."""

import contextlib
import itertools
import sys
from typing import Any, Literal

import keras
import numpy as np

from keras_vision.keras_internals.trainer import copy_weight_decay_exclusions, other_optimizer
from keras_vision.training import torch_state
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
    with native_operations(model, enabled=native), _borrowed(model) as optimizer, _endless(batches) as stream:
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


@contextlib.contextmanager
def _endless(batches):
    """A stream of batches, epoch after epoch; the block ends with the first epoch restarted."""
    start = getattr(batches, "start_epoch", lambda epoch: None)

    def stream():
        for epoch in itertools.count():
            start(epoch)
            count = 0
            # Iterating over a PyDataset does not end.
            sized = isinstance(batches, keras.utils.PyDataset)
            for batch in map(batches.__getitem__, range(len(batches))) if sized else batches:
                count += 1
                yield batch
            if not count:
                raise ValueError(f"A range test needs batches that can be restarted. Epoch {epoch + 1} had none.")

    try:
        yield stream()
    finally:
        start(0)


@contextlib.contextmanager
def _borrowed(model):
    """A second optimizer to train the model with; the block ends with everything restored that it changed."""
    variables = [*model.variables, *model.metrics_variables]
    values = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    optimizer = _like(model.optimizer)
    optimizer.build(model.trainable_variables)
    on_torch = keras.backend.backend() == "torch"
    kept = torch_state.kept(model.trainable_variables) if on_torch else contextlib.nullcontext()
    try:
        with other_optimizer(model, optimizer), kept:
            yield optimizer
    finally:
        model.reset_metrics()  # Some of the loss's and the metrics' variables may be created by the sweep.
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _like(optimizer):
    """An optimizer with the same settings and empty slots, whose learning rate is a variable."""
    config = optimizer.get_config()
    if hasattr(optimizer, "inner_optimizer"):  # Keras's loss scaling for half precision.
        del config["inner_optimizer"]
        return type(optimizer)(_like(optimizer.inner_optimizer), **config)
    twin = type(optimizer).from_config({**config, "learning_rate": 0.0})
    copy_weight_decay_exclusions(optimizer, twin)
    return twin
