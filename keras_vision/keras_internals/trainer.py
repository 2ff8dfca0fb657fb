"""The training state that Keras keeps in a model, and the one setting that an optimizer's config lacks."""

import contextlib
from collections.abc import Iterator
from typing import Any

# A compiled function keeps the optimizer that it was made with. The last two exist on JAX: an interrupted step leaves
# values in them that Keras would later write into the variables.
STATE = ("optimizer", "train_function", "_jax_state", "_jax_state_synced")
EXCLUSIONS = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")


@contextlib.contextmanager
def other_optimizer(model: Any, optimizer: Any) -> Iterator[None]:
    """Makes a compiled model train with another optimizer until the block ends.

    Args:
        model: A compiled `keras.Model`.
        optimizer: A `keras.optimizers.Optimizer`, built for the model's trainable variables.
    """
    kept = {name: vars(model)[name] for name in STATE if name in vars(model)}
    # Set without Keras's tracking of a model's parts, as `compile` does.
    vars(model).update(optimizer=optimizer, train_function=None)
    try:
        yield
    finally:
        for name in STATE:
            vars(model).pop(name, None)
        vars(model).update(kept)


def copy_weight_decay_exclusions(optimizer: Any, twin: Any) -> None:
    """Excludes the same variables from weight decay in a second optimizer; an optimizer's config does not have them."""
    for name in EXCLUSIONS:
        if hasattr(optimizer, name):
            setattr(twin, name, getattr(optimizer, name))
