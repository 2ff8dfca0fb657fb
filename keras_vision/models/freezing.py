"""Which layers learn, and which keep the weights and statistics that they start with."""

import difflib
import math

from keras_vision.recipe import InputError


def freeze(model, unfreeze):
    """Freezes all layers in front of the first one that is to learn.

    Keras keeps the statistics of a frozen BatchNormalization as they are and computes with them, in training too.

    Args:
        model: A `keras.Model` of one flat graph.
        unfreeze: "all"; "none", for the head alone; or the name of a layer, or of a group of layers such as `layer4`
            for `layer4_0_conv1` and what follows it.

    Raises:
        InputError: If no layer has that name.
    """
    if unfreeze == "all":
        return
    first = _head(model) if unfreeze == "none" else _first_called(model, unfreeze)
    for layer in model.layers[:first]:
        layer.trainable = False
    learning = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    print(
        f"Frozen: all layers before {model.layers[first].name}; {learning:,} of {model.count_params():,} weights learn."
    )


def _head(model):
    """Where the head begins: behind the last layer that gives maps; some backbones have vectors in between, too."""
    return 1 + max(number for number, layer in enumerate(model.layers) if len(layer.output.shape) > 2)


def _first_called(model, name):
    names = [layer.name for layer in model.layers]
    for number, found in enumerate(names):
        if found == name or found.startswith(f"{name}_"):
            return number
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.3) or names[-5:]
    raise InputError(f"--unfreeze takes all, none or a layer's name, such as {', '.join(near)}. Received: {name}.")
