"""The state that Keras's trainer keeps in a model, and the one setting that an optimizer's config lacks."""

import contextlib
from collections.abc import Iterator
from typing import Any

# Compiled functions hold on to the optimizer that they were made with. The last two are Keras's on JAX: a step that is
# interrupted leaves there what it would later write into the variables.
STATE = ("optimizer", "train_function", "_jax_state", "_jax_state_synced")
EXCLUSIONS = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")


@contextlib.contextmanager
def other_optimizer(model: Any, optimizer: Any) -> Iterator[None]:
    """Lets a compiled model train with another optimizer until the block ends.

    Args:
        model: A compiled `keras.Model`.
        optimizer: A `keras.optimizers.Optimizer`, built for the model's trainable variables.
    """
    kept = {name: vars(model)[name] for name in STATE if name in vars(model)}
    # Set as `compile` sets it: unnoticed by what keeps track of a model's parts.
    vars(model).update(optimizer=optimizer, train_function=None)
    try:
        yield
    finally:
        for name in STATE:
            vars(model).pop(name, None)
        vars(model).update(kept)


def copy_weight_decay_exclusions(optimizer: Any, twin: Any) -> None:
    """Excludes the same variables from weight decay in a second optimizer; a config does not say which."""
    for name in EXCLUSIONS:
        if hasattr(optimizer, name):
            setattr(twin, name, getattr(optimizer, name))
