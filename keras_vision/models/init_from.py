"""Starting from another run's network: every layer that has the same place here."""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.models.channels import fit_channels
from keras_vision.recipe import InputError, first_line

CONVOLUTIONS = (layers.Conv2D, layers.Conv3D)
NAMED_AT_MOST = 5  # Layers that were not taken: a line is to be read.


def init_from(model, file):
    """Gives a network the weights of another one's layers, by name and shape, and says which.

    The first convolution is fitted where one network takes gray pictures and the other colour. The head is taken where
    it has the same shape, so between data sets with the same number of classes.

    Args:
        model: A `keras.Model`, changed in place.
        file: A .keras file, read in Keras's safe mode; a finished run has one, `model.keras`.

    Returns:
        Names of the layers that were not taken.

    Raises:
        InputError: If there is no model that can be read, or no layer of it has a place here.
    """
    source = _read(file)
    theirs = {layer.name: layer.get_weights() for layer in source.layers}
    weighted = [layer for layer in model.layers if layer.weights]
    refused = {}
    for layer in weighted:
        found = theirs.get(layer.name)
        if not found:
            refused[layer.name] = "not there"
        elif not _take(layer, found):
            refused[layer.name] = "another shape"
    if len(refused) == len(weighted):
        raise InputError(
            f"No layer of {file} has the name and shape of one here. --init-from takes a run of the same "
            f"--architecture and --width. Received: a {source.name} for a {model.name}."
        )
    print(f"Taken: {len(weighted) - len(refused)} of {len(weighted)} layers with weights, from {file}.{_list(refused)}")
    return list(refused)


def _read(file):
    model: Any
    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Whatever a damaged archive makes of Keras's reader.
        raise InputError(f"{file} cannot be read as a Keras model: {first_line(error)}") from error
    return model


def _take(layer, values):
    shapes = [tuple(weight.shape) for weight in layer.weights]
    if isinstance(layer, CONVOLUTIONS) and values[0].shape != shapes[0]:
        fitted = fit_channels(values[0], shapes[0])
        values = values if fitted is None else [fitted, *values[1:]]
    if [np.shape(value) for value in values] != shapes:
        return False
    layer.set_weights(values)
    return True


def _list(refused):
    if not refused:
        return ""
    named = [f"{name} ({reason})" for name, reason in list(refused.items())[:NAMED_AT_MOST]]
    more = len(refused) - len(named)
    return f" Not taken: {', '.join(named)}{f' and {more} more' if more else ''}."
