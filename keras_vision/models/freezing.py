"""Freezing layers: they keep their initial weights and statistics."""

import difflib
import math
from typing import Any

import keras

from keras_vision.recipe import InputError


def freeze(model: keras.Model, unfreeze: str) -> None:
    """Freezes all layers before the first trainable one.

    A frozen BatchNormalization keeps its moving statistics and uses them in training, too (Keras's rule).

    Args:
        model: A `keras.Model` of one flat graph, changed in place.
        unfreeze: "all"; "none" to train only the head; or the name of the first layer to train, or of a group of
            layers, such as `layer4` for `layer4_0_conv1` and all after it.

    Raises:
        InputError: If no layer has that name.
    """
    if unfreeze == "all":
        return
    first = _head(model) if unfreeze == "none" else _first_called(model, unfreeze)
    for layer in model.layers[:first]:
        layer.trainable = False
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    name = model.layers[first].name
    print(f"Frozen: all layers before {name}; {trainable:,} of {model.count_params():,} weights are trainable.")


def keep_statistics(model: keras.Model) -> None:
    """Freezes the normalizations: they keep their weights and moving statistics, and use these in training, too."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def backbone_and_head(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """A network in two: from images to features, of the same layers, and a copy of its head from features to logits.

    The features are the vectors before the first layer of the head that has weights or drops values.

    Args:
        model: From `build`.

    Returns:
        The backbone, and the head, whose weights are a copy; `set_weights` of `head_layers` takes them back.
    """
    layers = head_layers(model)
    features: Any = layers[0].input
    x = inputs = keras.Input(features.shape[1:], name="features")
    copies = [type(layer).from_config(layer.get_config()) for layer in layers]
    for copy in copies:
        x = copy(x)
    for layer, copy in zip(layers, copies, strict=True):
        copy.set_weights(layer.get_weights())
    return keras.Model(model.input, features), keras.Model(inputs, x, name=f"{model.name}_head")


def head_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers after the features, in order: those with weights, and dropout."""
    layers = model.layers[_head(model) :]
    while not layers[0].weights and not isinstance(layers[0], keras.layers.Dropout):
        layers = layers[1:]
    return layers


def _head(model):
    """Index of the head: after the last layer that outputs maps, since some backbones have vectors before it, too."""
    return 1 + max(number for number, layer in enumerate(model.layers) if len(layer.output.shape) > 2)


def _first_called(model, name):
    names = [layer.name for layer in model.layers]
    for number, layer_name in enumerate(names):
        if layer_name == name or layer_name.startswith(f"{name}_"):
            return number
    similar = difflib.get_close_matches(name, names, n=5, cutoff=0.3) or names[-5:]
    raise InputError(f"--unfreeze takes all, none or a layer's name, such as {', '.join(similar)}. Received: {name}.")
