"""The gradient of a score with respect to arrays, on whichever backend runs: the only file here that knows it."""

import keras
import numpy as np


def compile_gradients(function, variables):
    """Compiles, once, a function that differentiates a score with respect to several arrays.

    Args:
        function: `function(arrays, *constants)` returns a scalar tensor, the score, and a list of further tensors. It
            is written with `keras.ops`.
        variables: The Keras variables that it uses. Their values are read anew at every call.

    Returns:
        `differentiate(arrays, *constants)`, which returns the further tensors and the gradients, one for each of the
        arrays, as two lists of float32 NumPy arrays. Shapes that it has seen are not compiled again.
    """
    compiled = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}[keras.backend.backend()](function, variables)

    def differentiate(arrays, *constants):
        arrays, constants = ([keras.ops.convert_to_tensor(part) for part in parts] for parts in (arrays, constants))
        further, gradients = compiled(arrays, constants)
        return _to_numpy(further), _to_numpy(gradients)

    return differentiate


def _to_numpy(tensors):
    return [np.asarray(keras.ops.convert_to_numpy(tensor), np.float32) for tensor in tensors]


def _jax(function, variables):
    import jax

    def score(arrays, values, constants):
        # A compiled function keeps what it reads from outside, so the weights have to be arguments of it.
        with keras.StatelessScope(zip(variables, values, strict=True)):
            return function(arrays, *constants)

    gradient = jax.jit(jax.grad(score, has_aux=True))

    def differentiate(arrays, constants):
        gradients, further = gradient(arrays, [variable.value for variable in variables], constants)
        return further, gradients

    return differentiate


def _tensorflow(function, _):
    import tensorflow as tf

    @tf.function
    def differentiate(arrays, constants):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(arrays)
            score, further = function(arrays, *constants)
        return further, tape.gradient(score, arrays, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return differentiate


def _torch(function, variables):
    import torch

    def differentiate(arrays, constants):
        leaves = [array.detach().clone().requires_grad_() for array in arrays]
        # Of weights that want gradients, torch would keep all layers' feature maps.
        values = [variable.value.detach() for variable in variables]
        with torch.enable_grad(), keras.StatelessScope(zip(variables, values, strict=True)):
            score, further = function(leaves, *constants)
        # A layer beside the way to the score, or a score that depends on nothing at all, has no gradient: zeros.
        if not score.requires_grad:
            return further, [torch.zeros_like(leaf) for leaf in leaves]
        gradients = torch.autograd.grad(score, leaves, allow_unused=True)
        zeros = (torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, gradients, strict=True))
        return further, list(zeros)

    return differentiate
