"""Initialization from another run's model: every layer with the same name and shape."""

import os

import keras
import numpy as np
from keras import layers

from keras_vision.models.channels import fit_channels
from keras_vision.models.saved import read_model
from keras_vision.recipe import InputError

CONVOLUTIONS = (layers.Conv2D, layers.Conv3D)
MAX_NAMES = 5  # Layers that were not loaded; the line stays short.


def init_from(model: keras.Model, file: str | os.PathLike[str]) -> list[str]:
    """Loads the weights of another model's layers by name and shape, and prints which.

    The first convolution is converted if one network takes gray images and the other colour. The head is loaded if it
    has the same shape, so between data sets with the same number of classes.

    Args:
        model: A `keras.Model`, changed in place.
        file: A .keras file, read in Keras's safe mode, such as a finished run's `model.keras`.

    Returns:
        Names of the layers that were not loaded.

    Raises:
        InputError: If the file cannot be read as a model, or no layer has the name and shape of one in `model`.
    """
    source = read_model(file)
    source_weights = {layer.name: layer.get_weights() for layer in source.layers}
    layers_with_weights = [layer for layer in model.layers if layer.weights]
    not_loaded = {}
    for layer in layers_with_weights:
        weights = source_weights.get(layer.name)
        if not weights:
            not_loaded[layer.name] = "not in the file"
        elif not _set_weights(layer, weights):
            not_loaded[layer.name] = "another shape"
    count = len(layers_with_weights)
    if len(not_loaded) == count:
        raise InputError(
            f"No layer of {file} has the name and shape of a layer in this network. --init-from takes a run of the "
            f"same --architecture and --width. Received: a {source.name} for a {model.name}."
        )
    print(f"Loaded {count - len(not_loaded)} of {count} layers with weights from {file}.{_list(not_loaded)}")
    return list(not_loaded)


def _set_weights(layer, values):
    """Whether the values have the layer's shapes and were set."""
    shapes = [tuple(weight.shape) for weight in layer.weights]
    if isinstance(layer, CONVOLUTIONS) and values[0].shape != shapes[0]:
        fitted = fit_channels(values[0], shapes[0])
        values = values if fitted is None else [fitted, *values[1:]]
    if [np.shape(value) for value in values] != shapes:
        return False
    layer.set_weights(values)
    return True


def _list(not_loaded):
    if not not_loaded:
        return ""
    named = [f"{name} ({reason})" for name, reason in list(not_loaded.items())[:MAX_NAMES]]
    more = len(not_loaded) - len(named)
    return f" Not loaded: {', '.join(named)}{f' and {more} more' if more else ''}."
