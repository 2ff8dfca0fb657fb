"""Integrated gradients: what each pixel adds to a class's logit on the way from a baseline to the image."""

import numpy as np

from keras_vision.explanation.heatmap import heatmaps
from keras_vision.explanation.network import checked_classes, fitting, network_of
from keras_vision.recipe import InputError


def integrated_gradients(model, images, target_classes=None, *, layers=None, batch_size=32, baseline=None, steps=32):
    """Heatmaps of the pixels that raise one class's logit: attributions summed over channels, negative ones cut.

    Args:
        layers: None; the method explains pixels and no layer.
        baseline: See `attributions`, as for `steps`.

    The rest is as in `class_activation_maps`.

    Reference:
        Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365.
    """
    if layers is not None:
        raise InputError(f"Integrated gradients explain pixels, not layers. Received: layers={layers!r}.")
    found = attributions(model, images, target_classes, batch_size=batch_size, baseline=baseline, steps=steps)
    return heatmaps(found.sum(axis=-1), found.shape[1:-1])


def attributions(model, images, target_classes=None, *, batch_size=32, baseline=None, steps=32):
    """What each value of each pixel adds to the logit; over an image they sum to what the logit gains.

    Args:
        model: A functional or Sequential Keras model.
        images: In `[0, 255]`, shape `(N, H, W, C)` or `(N, D, H, W, C)`.
        target_classes: One for all, one for each image, or None for the predicted ones.
        batch_size: Images on the way that are in memory at once.
        baseline: Array that broadcasts against the images; None is black.
        steps: Places on the way where the gradient is taken, each in the middle of its part.

    Returns:
        Float32 array, the shape of the images.

    Raises:
        InputError: If the model, the images or a class is not one that can be explained.
    """
    network = network_of(model)
    images = network.checked(images)
    starts = np.broadcast_to(np.float32(0 if baseline is None else baseline), images.shape)
    targets = checked_classes(target_classes, len(images), network.num_classes(images.shape[1:]))
    batch_size = fitting(batch_size, steps)
    if target_classes is None:
        # The class that is predicted at the end of the way, not that of each place on it.
        logits = [part for part, _, _ in network.differentiate(images, None, [0], batch_size)]
        targets = np.concatenate(logits).argmax(axis=1)
    rows = [_attributions(network, *row, batch_size, steps) for row in zip(images, starts, targets, strict=True)]
    return np.stack(rows)


def _attributions(network, image, start, target, batch_size, steps):
    change = np.float32(image) - start
    middles = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    way = start + middles.reshape(-1, *[1] * image.ndim) * change
    gradients = [found for _, _, (found,) in network.differentiate(way, target, [0], batch_size)]
    return change * np.concatenate(gradients).mean(axis=0)
