"""The private names of Keras that this package uses, and whether the installed Keras has them."""

from typing import Any

import keras

from keras_vision.recipe import InputError

# By the kind of object that has them. Keras sets `_jax_state` and `_jax_state_synced` only on JAX and during a fit, so
# they are not here; `trainer.other_optimizer` treats them as optional.
PRIVATE = {
    "model": ("_run_through_graph", "_inputs_struct", "_flatten_layers"),
    "layer": ("_inbound_nodes", "_flatten_layers"),
    "tensor": ("_keras_history",),
    "variable": ("_layout",),
    "optimizer": ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"),
}


def missing() -> list[str]:
    """Names in `PRIVATE` that the installed Keras does not have, such as `layer._inbound_nodes`."""
    images = keras.Input((1,))
    model = keras.Model(images, keras.layers.Dense(1)(images))
    optimizer = keras.optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    objects: dict[str, Any] = {
        "model": model,
        "layer": model.layers[-1],
        "tensor": model.output,
        "variable": model.trainable_variables[0],
        "optimizer": optimizer,
    }
    return [f"{kind}.{name}" for kind, names in PRIVATE.items() for name in names if not hasattr(objects[kind], name)]


def require() -> None:
    """Checks that the installed Keras has every private name.

    Raises:
        InputError: With the missing names and the versions to install.
    """
    if names := missing():
        raise InputError(
            f"Keras {keras.__version__} lacks {', '.join(names)}, which keras_vision uses. "
            'Install a tested version: pip install "keras>=3.15,<3.16".'
        )
