"""The names that a network's weights have in torch: the module of each layer, and the tensors of each kind of layer."""

from collections.abc import Callable

import keras
from keras import layers

# The variable of each of torch's tensors.
VARIABLES = {
    layers.BatchNormalization: {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "moving_mean",
        "running_var": "moving_variance",
    },
    layers.Conv2D: {"weight": "kernel"},
    layers.DepthwiseConv2D: {"weight": "kernel"},
    layers.Dense: {"weight": "kernel", "bias": "bias"},
}


def weight_names(model: keras.Model, module: Callable[[str], str]) -> dict[str, tuple[str, str]]:
    """The layer and variable of each of torch's weights.

    torch's `num_batches_tracked` have no counterpart.

    Args:
        model: A network of one flat graph whose convolutions have no bias.
        module: The name of torch's module for the name of a layer.

    Returns:
        `{torch's name: (layer, variable)}`.
    """
    return {
        f"{module(layer.name)}.{tensor}": (layer.name, variable)
        for layer in model.layers
        for tensor, variable in VARIABLES.get(type(layer), {}).items()
    }


def head_names(model: keras.Model, name: str) -> dict[str, str]:
    """torch's modules for the layers of the head.

    Args:
        name: The module of the head. With a hidden layer it is torch's Sequential of Linear, ReLU, optional Dropout,
            and Linear.
    """
    names = {layer.name for layer in model.layers}
    if "hidden" not in names:
        return {"logits": name}
    return {"hidden": f"{name}.0", "logits": f"{name}.3" if "dropout" in names else f"{name}.2"}
