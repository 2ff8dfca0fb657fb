"""What the methods share that weight feature maps by gradients; each of them says only how."""

import numpy as np

from keras_vision.explanation.heatmap import heatmaps
from keras_vision.explanation.network import fitting, network_of


def class_activation_maps(combine, model, images, target_classes, layers, batch_size):
    """Heatmaps from feature maps and the gradients of the target class's logit with respect to them.

    Args:
        combine: `combine(maps_NPC, gradients_NPC)` returns maps of shape `(N, P)`: N images, P positions along all
            spatial axes, C channels.
        model: A functional or Sequential Keras model; nested models in it need no preparation.
        images: In `[0, 255]`, shape `(N, H, W, C)` or `(N, D, H, W, C)`.
        target_classes: One for all, one for each image, or None for the predicted ones.
        layers: A layer's name, a list of names, or None for the last layer with feature maps.
        batch_size: Images that are in memory at once.

    Returns:
        Float32 array, shape `(N, *spatial)`, in `[0, 1]`; for a list of layers a list of such arrays.

    Raises:
        InputError: If the model, the images, a class or a layer is not one that can be explained.
    """
    network = network_of(model)
    images = network.checked(images)
    places = [step.output for step in network.steps(images.shape[1:], layers)]
    batch_size = fitting(batch_size, len(images))
    found = [[] for _ in places]
    for _, tensors, gradients in network.differentiate(images, target_classes, places, batch_size):
        for parts, maps, slopes in zip(found, tensors, gradients, strict=True):
            combined = combine(*(part.reshape(len(part), -1, part.shape[-1]) for part in (maps, slopes)))
            parts.append(heatmaps(combined.reshape(maps.shape[:-1]), images.shape[1:-1]))
    return in_the_shape_of(layers, [np.concatenate(parts) for parts in found])


def in_the_shape_of(layers, arrays):
    """A list for a list of layers, else the one array."""
    return arrays if isinstance(layers, (list, tuple)) else arrays[0]


def weighted_sum(maps_NPC, weights_NC):
    """Sums feature maps over channels, each with its weight: `(N, P)`."""
    return (maps_NPC @ weights_NC[:, :, np.newaxis])[:, :, 0]
