"""Whether a model scales pixels from 0 to 255 by itself, at its very beginning."""

from typing import Any

import keras
import numpy as np

from keras_vision.keras_internals.graph import Graph, Place, read_graph
from keras_vision.recipe import InputError

PIXELS = (0.0, 255.0)
# Scaled pixels are about -3 to 3; ImageNet's mean and deviation give -2.1 to 2.6.
LARGEST_SCALED = 10.0
# What is left of 0 to 255 where only a mean is subtracted, as for the first networks on ImageNet.
SHIFTED = (200.0, 300.0)
SCALING = ("Rescaling", "Normalization", "Add", "Subtract", "Multiply", "Divide", "TrueDivide")
# Layers and operations that neither scale nor shift values in inference; besides those whose names begin with Random.
KEEPS_RANGE = {
    *("InputLayer", "Identity", "Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "Cast"),
    *("GetItem", "Stack", "Flip"),
    *("Resizing", "CenterCrop", "Cropping2D", "ZeroPadding2D", "Concatenate", "ActivityRegularization"),
}


def scales_pixels(model: keras.Model) -> bool:
    """Whether a model's first computation brings 0 and 255 into a range that networks are trained with.

    Augmentation, resizing and the like may come before.

    Args:
        model: Any model; one that is no plain graph does not scale pixels as far as can be told.
    """
    try:
        return _scales(read_graph(model))
    except (InputError, TypeError, ValueError, AttributeError):  # No graph, or a damaged file's layer.
        return False


def _scales(graph: Graph) -> bool:
    ends: Any = [np.full((1, 1, 1, 1), pixel) for pixel in PIXELS]
    tensor, scaled = 0, False
    for step in graph.steps:
        if tensor not in step.inputs:
            continue
        kind = type(step.layer).__name__
        if kind in SCALING and len(step.inputs) == 1:
            ends, scaled = [_applied(step, end) for end in ends], True
        elif not (kind.startswith("Random") or kind in KEEPS_RANGE):
            break
        tensor = step.output
        if scaled and _small(ends):
            return True
    return scaled and _only_shifted(ends)


def _small(ends):
    """Whether black and white have become values that networks are trained with."""
    return np.max(np.abs(ends[1] - ends[0])) > 0.5 and np.max(np.abs(ends)) <= LARGEST_SCALED


def _only_shifted(ends):
    widths = np.abs(ends[1] - ends[0])
    return bool(np.all((widths >= SHIFTED[0]) & (widths <= SHIFTED[1])) and np.min(ends) < -10)


def _applied(step, values):
    """What a scaling layer or operator makes of some values."""
    kind = type(step.layer).__name__
    if kind in ("Rescaling", "Normalization"):
        scale, offset = scale_and_offset(step.layer)
        return values * scale + offset
    parts = [*step.positional, *step.arguments.values()]
    first, second = (
        values if isinstance(part, Place) else np.asarray(keras.ops.convert_to_numpy(part)) for part in parts
    )
    function: Any = {"Add": np.add, "Subtract": np.subtract, "Multiply": np.multiply}.get(kind, np.divide)
    return function(first, second)


def scale_and_offset(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a Rescaling or Normalization multiplies values by, and what it then adds; float64."""
    if isinstance(layer, keras.layers.Rescaling):
        return np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    mean, variance = (np.asarray(keras.ops.convert_to_numpy(part), np.float64) for part in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
