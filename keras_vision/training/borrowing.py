"""Training a model for a measurement, and leaving it and its batches as they were."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_vision.keras_internals.trainer import copy_weight_decay_exclusions, other_optimizer
from keras_vision.training import torch_state


@contextlib.contextmanager
def borrowed(model: keras.Model) -> Iterator[Any]:
    """Trains a model with a second optimizer, and undoes every change that the training made.

    The second optimizer has the settings of the model's own, empty slots, and a learning rate of 0 until one is
    assigned. The model's optimizer is never touched; weights, statistics, random seeds, metrics and gradients get their
    values back, also when the block fails or is interrupted.

    Args:
        model: A compiled and built model.

    Yields:
        The second optimizer.
    """
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
        model.reset_metrics()  # The loss's and the metrics' variables may have been created in the block.
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _like(optimizer):
    """An untrained optimizer with the same settings, whose learning rate is a variable."""
    config = optimizer.get_config()
    if hasattr(optimizer, "inner_optimizer"):  # The loss scaling that Keras puts around one for half precision.
        del config["inner_optimizer"]
        return type(optimizer)(_like(optimizer.inner_optimizer), **config)
    twin = type(optimizer).from_config({**config, "learning_rate": 0.0})
    copy_weight_decay_exclusions(optimizer, twin)
    return twin


@contextlib.contextmanager
def endless(batches: Any) -> Iterator[Iterator[tuple]]:
    """Yields an iterator over the batches of epoch after epoch; `batches` is at its first epoch afterwards.

    Args:
        batches: A `keras.utils.PyDataset`, or anything that can be iterated repeatedly. Each epoch begins with
            `start_epoch(number)` where it has that.

    Raises:
        ValueError: If an epoch has no batches.
    """

    def stream():
        for epoch in itertools.count():
            count = 0
            for batch in one_epoch(batches, epoch):
                count += 1
                yield batch
            if not count:
                raise ValueError(f"The batches must be iterable repeatedly. Epoch {epoch + 1} had none.")

    try:
        yield stream()
    finally:
        _start(batches, 0)


def one_epoch(batches: Any, epoch: int) -> Iterator[tuple]:
    """The batches of one epoch, see `endless`."""
    _start(batches, epoch)
    yield from batches


def _start(batches, epoch):
    if hasattr(batches, "start_epoch"):
        batches.start_epoch(epoch)
