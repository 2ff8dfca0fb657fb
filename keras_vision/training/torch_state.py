"""What torch keeps beside a model's variables and a training changes: its random generator and gradients."""

import contextlib


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
