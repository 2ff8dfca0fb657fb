"""Runs the layers of a half-precision model in float32, so that small gradients do not underflow."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import keras

from keras_vision.keras_internals.nodes import all_layers

HALF = ("float16", "bfloat16")


class _Float32OverVariables(keras.DTypePolicy):
    """Computes in float32; the variables keep their type."""

    def __init__(self, variable_dtype: str):
        super().__init__("float32")
        self._variables = variable_dtype

    @property
    def variable_dtype(self) -> str:
        return self._variables


@contextmanager
def in_float32(layers: Iterable[keras.Layer]) -> Iterator[None]:
    """Makes half-precision layers, and the layers inside them, compute in float32; their weights do not change.

    Gradients of a logit with respect to pixels are around 1e-6, where float16 has one significant digit left.
    """
    half = {}
    for outer in layers:
        for layer in all_layers(outer):
            if layer.compute_dtype in HALF:
                half[layer] = layer.dtype_policy
    try:
        for layer, policy in half.items():
            layer.dtype_policy = _Float32OverVariables(policy.variable_dtype)
        yield
    finally:
        for layer, policy in half.items():
            layer.dtype_policy = policy
