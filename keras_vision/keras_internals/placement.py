"""Where JAX keeps a Keras model's variables and batches: on one device, or on several, for data parallelism.

Keras decides that where a variable is made, and from the shape of an epoch's first batch. Here it is decided later, for
variables that exist and for each batch.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np


class _Whole(np.ndarray):
    """A part of a batch that is given to every device as it is, not divided."""


def whole(part: np.ndarray) -> np.ndarray:
    """Marks a part of a batch, such as its images, to be given to every device as it is."""
    return np.asarray(part).view(_Whole)


@contextlib.contextmanager
def divided(names: Sequence[str]) -> Iterator[None]:
    """Lets Keras divide batches among devices: in each process its part of the batch, or what is marked as whole.

    Args:
        names: Keras's names of the devices.
    """
    from keras.src.backend.jax import distribution_lib

    distribution = keras.distribution.DataParallel(devices=list(names), auto_shard_dataset=False)
    original = distribution_lib.distribute_data_input

    def placed(batch, layout, batch_dim_name):
        if not isinstance(batch, _Whole):
            return original(batch, layout, batch_dim_name)
        import jax

        everywhere = keras.distribution.TensorLayout([None] * batch.ndim, distribution.device_mesh)
        plain = np.asarray(batch)
        return jax.make_array_from_process_local_data(everywhere.backend_layout, plain, plain.shape)

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(distribution)
    distribution_lib.distribute_data_input = placed
    try:
        yield
    finally:
        distribution_lib.distribute_data_input = original
        keras.distribution.set_distribution(before)


def on_all(variables: Sequence[Any]) -> None:
    """Puts the values that process 0 has of variables onto all devices of the distribution that is set."""
    import jax
    from jax.experimental import multihost_utils

    distribution: Any = keras.distribution.distribution()
    values = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
    if jax.process_count() > 1:
        values = multihost_utils.broadcast_one_to_all(values)
    for variable, value in zip(variables, values, strict=True):
        variable._layout = None
        layout = distribution.get_variable_layout(variable)
        placed = jax.make_array_from_process_local_data(layout.backend_layout, np.asarray(value), value.shape)
        variable._layout = layout
        variable.assign(placed)


def on_one(variables: Sequence[Any]) -> None:
    """Takes values of variables back to this process's own device."""
    for variable in variables:
        value = np.array(keras.ops.convert_to_numpy(variable))
        variable._layout = None
        variable.assign(value)
