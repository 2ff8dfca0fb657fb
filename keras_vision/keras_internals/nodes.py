"""The operation that made a symbolic tensor, and the tensors of a layer's calls."""

from typing import Any

import keras


def maker(tensor: Any) -> Any:
    """The layer or operation that made a symbolic tensor."""
    return tensor._keras_history.operation


def first_output(layer: Any) -> keras.KerasTensor:
    """The output of a layer's first call; later calls are reuses of the layer."""
    return layer._inbound_nodes[0].outputs[0]


def first_input(layer: Any) -> keras.KerasTensor:
    """The first input of a layer's first call."""
    return layer._inbound_nodes[0].input_tensors[0]


def all_layers(layer: Any) -> list[keras.Layer]:
    """A layer and all layers inside it, also those of attention layers and wrappers, which no public name lists."""
    return list(layer._flatten_layers())
