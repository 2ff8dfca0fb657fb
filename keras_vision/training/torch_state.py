"""torch's state around a training: random generator and gradients restored, slow and faulty kernels avoided."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

# Floats in an AVX-512 vector.
VECTOR = 16


def flush_denormals() -> None:
    """On torch, computes with 0 instead of numbers below 1.2e-38, as TensorFlow and XLA do by themselves.

    Gradients that fade out reach such numbers, and many processors are 10 times slower with them. torch's threads copy
    the setting when they start, so this belongs before the first computation.
    """
    if keras.backend.backend() == "torch":
        import torch

        torch.set_flush_denormal(True)


@contextlib.contextmanager
def sound_gradients(model: keras.Model) -> Iterator[None]:
    """Switches oneDNN off for networks whose gradients it gets wrong; does nothing for most networks.

    In strided 1 x 1 convolutions with fewer input channels than a vector has floats, oneDNN 3.x writes out of bounds:
    gradients may be wrong, and the process may crash silently (https://github.com/uxlfoundation/oneDNN/issues/6035).
    Such narrow networks are as fast without it.

    Args:
        model: A flat `keras.Model`, on any backend.
    """
    if keras.backend.backend() != "torch" or not any(map(_is_faulty, model.layers)):
        yield
        return
    import torch

    unchanged: Any = None
    with torch.backends.mkldnn.flags(
        enabled=False, deterministic=unchanged, allow_tf32=unchanged, fp32_precision=unchanged
    ):
        yield


def _is_faulty(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Conv2D) or layer.kernel_size != (1, 1) or layer.strides == (1, 1):
        return False
    kernel: Any = layer.kernel
    return kernel.shape[2] < VECTOR


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """On torch, records nothing for gradients until the block ends; other backends record only in a training step."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    with torch.no_grad():
        yield


@contextlib.contextmanager
def kept(variables: Sequence[Any]) -> Iterator[None]:
    """Restores torch's random generator and the variables' gradients when the block ends, also after an error.

    Keras's dropout without a seed uses that generator, and an old gradient would be added to the next one.

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


def generator_state() -> dict[str, Any]:
    """The state of torch's random generator, from which Keras's dropout draws there; empty on other backends."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    return {"torch_generator": torch.random.get_rng_state().numpy()}


def restore_generator(states: Mapping[str, Any]) -> None:
    """Puts a state of `generator_state` back."""
    if keras.backend.backend() == "torch":
        import torch

        torch.random.set_rng_state(torch.from_numpy(states["torch_generator"].copy()))
