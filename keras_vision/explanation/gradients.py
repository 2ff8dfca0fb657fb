"""Gradients of a score with respect to arrays, on every backend. The only file of this package that imports one."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np


def compile_gradients(
    function: Callable[..., tuple[Any, list[Any]]], variables: Sequence[keras.Variable]
) -> Callable[..., tuple[list[np.ndarray], list[np.ndarray]]]:
    """Compiles the gradient of a score with respect to several arrays.

    Args:
        function: `function(arrays, *constants)` returns the score, a scalar tensor, and a list of auxiliary tensors. It
            uses `keras.ops`.
        variables: The Keras variables that `function` reads. Their current values are used at every call.

    Returns:
        `differentiate(arrays, *constants)`, which returns two lists of float32 NumPy arrays: the auxiliary tensors, and
        the gradients, one per array. Each combination of shapes is compiled once.
    """
    compiled = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}[keras.backend.backend()](function, variables)

    def differentiate(arrays, *constants):
        arrays, constants = ([keras.ops.convert_to_tensor(part) for part in parts] for parts in (arrays, constants))
        auxiliary, gradients = compiled(arrays, constants)
        return _to_numpy(auxiliary), _to_numpy(gradients)

    return differentiate


def _to_numpy(tensors):
    return [np.asarray(keras.ops.convert_to_numpy(tensor), np.float32) for tensor in tensors]


def _jax(function, variables):
    import jax

    def score(arrays, values, constants):
        # A compiled function treats what it closes over as constant, so the weights have to be arguments.
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function(arrays, *constants)

    gradient = jax.jit(jax.grad(score, has_aux=True))

    def differentiate(arrays, constants):
        gradients, auxiliary = gradient(arrays, [variable.value for variable in variables], constants)
        return auxiliary, gradients

    return differentiate


def _tensorflow(function, _):
    import tensorflow as tf

    @tf.function
    def differentiate(arrays, constants):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(arrays)
            score, auxiliary = function(arrays, *constants)
        return auxiliary, tape.gradient(score, arrays, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return differentiate


def _torch(function, variables):
    import torch

    def differentiate(arrays, constants):
        leaves = [array.detach().clone().requires_grad_() for array in arrays]
        # For weights that require gradients, torch would keep the feature maps of all layers.
        values = [variable.value.detach() for variable in variables]
        with torch.enable_grad(), keras.StatelessScope(zip(variables, values, strict=True)):
            score, auxiliary = function(leaves, *constants)
        # A tensor that the score does not depend on has no gradient in torch; it gets zeros.
        if not score.requires_grad:
            return auxiliary, [torch.zeros_like(leaf) for leaf in leaves]
        gradients = torch.autograd.grad(score, leaves, allow_unused=True)
        zeros = (torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, gradients, strict=True))
        return auxiliary, list(zeros)

    return differentiate
