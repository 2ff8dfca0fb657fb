"""Everything that decides how a training goes on: captured, and put back into a new process's objects."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_vision.training import torch_state


@dataclass(frozen=True)
class State:
    """A training after some epochs and steps.

    Attributes:
        epoch: Completed epochs.
        step: Completed steps of the epoch after those.
        stopped: Whether no further epoch is needed.
        arrays: Values of all variables, by kind and number.
        variables: `[path, shape, type]` of each, in the same order.
        callbacks: What each callback remembers, in their order.
        best: The best weights so far, by callback number; empty where no callback keeps any.
    """

    epoch: int
    step: int
    stopped: bool
    arrays: dict[str, np.ndarray]
    variables: list[list[Any]]
    callbacks: list[dict[str, Any]]
    best: dict[str, np.ndarray] = field(default_factory=dict)

    def place(self, epochs: int) -> str:
        """Where it is, such as "epoch 3 of 20" after the third, or "epoch 4 of 20, step 12"."""
        if self.step:
            return f"epoch {self.epoch + 1} of {epochs}, step {self.step:,}"
        return f"epoch {self.epoch} of {epochs}"


def capture(model: Any, callbacks: Sequence[Any], *, epoch: int, step: int = 0) -> State:
    """The state of a training, between two of its steps.

    Args:
        model: A compiled `keras.Model` in training.
        callbacks: All callbacks whose memory matters.
        epoch: Completed epochs.
        step: Completed steps of the next epoch. If there are any, the running metrics are captured as well.
    """
    groups = _groups(model, metrics=step > 0)
    arrays = {
        f"{group}/{number}": np.array(keras.ops.convert_to_numpy(variable))
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }
    identity = [_identity(variable) for variables in groups.values() for variable in variables]
    arrays |= torch_state.generator_state()
    memories = [_memory(callback) for callback in callbacks]
    return State(epoch, step, bool(model.stop_training), arrays, identity, memories, _best(callbacks))


def restore(model: Any, callbacks: Sequence[Any], state: State) -> None:
    """Puts a captured state back. In the middle of an epoch `restore_within_epoch` follows.

    Raises:
        ValueError: If the state is not one of this model, optimizer and callbacks.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    groups = _groups(model, metrics=False)
    identity = [_identity(variable) for variables in groups.values() for variable in variables]
    if state.variables[: len(identity)] != identity or len(state.callbacks) != len(callbacks):
        raise ValueError("The saved state is of another model, optimizer or recipe.")
    _assign(groups, state.arrays)
    torch_state.restore_generator(state.arrays)
    for number, (callback, memory) in enumerate(zip(callbacks, state.callbacks, strict=True)):
        vars(callback).update(memory)
        for name in _weight_lists(callback):
            prefix = f"{number}/{name}/"
            count = sum(key.startswith(prefix) for key in state.best)
            setattr(callback, name, [state.best[f"{prefix}{row}"] for row in range(count)] or None)


def restore_within_epoch(model: Any, state: State) -> None:
    """Puts back what the beginning of an epoch has changed: running metrics and torch's generator.

    Belongs before the first step.
    """
    # Metrics get their variables when they first see labels. torch's data loader draws a seed.
    nothing = np.zeros((1, *model.output_shape[1:]), np.float32)
    model.compute_metrics(None, nothing, keras.ops.convert_to_tensor(nothing))
    _assign({"metrics": model.metrics_variables}, state.arrays)
    torch_state.restore_generator(state.arrays)


def _groups(model, *, metrics):
    # `variables` includes seed generators, which `weights` does not.
    groups = {"model": model.variables, "optimizer": model.optimizer.variables}
    return groups | ({"metrics": model.metrics_variables} if metrics else {})


def _assign(groups: Mapping[str, Sequence[Any]], arrays):
    for group, variables in groups.items():
        for number, variable in enumerate(variables):
            variable.assign(arrays[f"{group}/{number}"])


def _identity(variable):
    """Path, shape and type of a variable; without the numbers that Keras appends to names used before."""
    path = re.sub(r"_\d+", "", variable.path)
    return [path, list(variable.shape), keras.backend.standardize_dtype(variable.dtype)]


def _memory(callback):
    """The attributes of a callback that JSON can hold."""
    return {name: _plain(value) for name, value in vars(callback).items() if name != "params" and _is_plain(value)}


def _is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(part) for key, part in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.generic)


def _plain(value):
    """NumPy's numbers as Python's, which have the same value."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _weight_lists(callback):
    """Attributes in which a callback keeps weights, such as EarlyStopping's `best_weights`."""
    return [name for name in vars(callback) if name.endswith("best_weights") and name != "restore_best_weights"]


def _best(callbacks):
    return {
        f"{number}/{name}/{row}": np.array(weights)
        for number, callback in enumerate(callbacks)
        for name in _weight_lists(callback)
        for row, weights in enumerate(vars(callback)[name] or ())
    }
