"""What torch needs around a training: its random generator and gradients put back, a faulty kernel left out."""

import contextlib
from typing import Any

import keras

# Floats in a vector of AVX-512.
VECTOR = 16


@contextlib.contextmanager
def sound_gradients(model):
    """Keeps a block's convolutions off oneDNN where its gradients cannot be trusted; does nothing for most networks.

    For 1 x 1 convolutions that skip pixels and see fewer channels than a vector holds, oneDNN 3.x writes beyond its
    memory: gradients may be wrong, and the process may end without a word
    (https://github.com/uxlfoundation/oneDNN/issues/6035). Networks so narrow are as quick without it.

    Args:
        model: A flat `keras.Model`, on any backend.
    """
    if keras.backend.backend() != "torch" or not any(map(_is_faulty, model.layers)):
        yield
        return
    import torch

    same: Any = None
    with torch.backends.mkldnn.flags(enabled=False, deterministic=same, allow_tf32=same, fp32_precision=same):
        yield


def _is_faulty(layer):
    return (
        isinstance(layer, keras.layers.Conv2D)
        and layer.kernel_size == (1, 1)
        and layer.strides != (1, 1)
        and layer.kernel.shape[2] < VECTOR
    )


@contextlib.contextmanager
def kept(variables):
    """Puts torch's random generator and the variables' gradients back when the block ends, well or not.

    Keras's dropout draws from that generator when it has no seed, and a gradient that stays is added to the next.

    Args:
        variables: Trainable `keras.Variable`s, on the torch backend.
    """
    import torch

    gradients = [variable.value.grad for variable in variables]
    for variable in variables:
        variable.value.grad = None
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.value.grad = gradient
