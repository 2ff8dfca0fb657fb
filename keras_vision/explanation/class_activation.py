"""The shared part of the methods that combine feature maps with gradients; each method supplies the combination."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_vision.explanation.heatmap import heatmaps
from keras_vision.explanation.network import fitting, network_of


def class_activation_maps(
    combine: Callable[[np.ndarray, np.ndarray], np.ndarray],
    model: keras.Model,
    images: np.ndarray,
    target_classes: ArrayLike | None,
    layers: str | Sequence[str] | None,
    batch_size: int,
) -> np.ndarray | list[np.ndarray]:
    """Heatmaps from feature maps and the gradients of the target class's logit with respect to them.

    Args:
        combine: `combine(maps_NPC, gradients_NPC)` returns maps of shape `(N, P)`: N images, P positions along all
            spatial axes, C channels.
        model: A functional or Sequential Keras model, nested or not.
        images: In `[0, 255]`, shape `(N, H, W, C)` or `(N, D, H, W, C)`.
        target_classes: One for all images, one per image, or None for the predicted classes.
        layers: Layer name, list of layer names, or None for the last layer with feature maps.
        batch_size: Images processed at once.

    Returns:
        Float32 array, shape `(N, *spatial)`, in `[0, 1]`; for a list of layers, a list of such arrays.

    Raises:
        InputError: If the model, the images, a class or a layer is not supported.
    """
    network = network_of(model)
    images = network.checked(images)
    tensor_numbers = [step.output for step in network.steps(images.shape[1:], layers)]
    batch_size = fitting(batch_size, len(images))
    heatmaps_of_layers = [[] for _ in tensor_numbers]
    for _, tensors, gradients in network.differentiate(images, target_classes, tensor_numbers, batch_size):
        for parts, maps, gradient in zip(heatmaps_of_layers, tensors, gradients, strict=True):
            combined = combine(*(part.reshape(len(part), -1, part.shape[-1]) for part in (maps, gradient)))
            parts.append(heatmaps(combined.reshape(maps.shape[:-1]), images.shape[1:-1]))
    return in_the_shape_of(layers, [np.concatenate(parts) for parts in heatmaps_of_layers])


def in_the_shape_of(layers: str | Sequence[str] | None, arrays: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    """The list of arrays if `layers` is a list, else its only array."""
    return arrays if isinstance(layers, (list, tuple)) else arrays[0]


def weighted_sum(maps_NPC: np.ndarray, weights_NC: np.ndarray) -> np.ndarray:
    """Weighted sum of feature maps over channels, shape `(N, P)`."""
    return (maps_NPC @ weights_NC[:, :, np.newaxis])[:, :, 0]
