"""Integrated gradients: each pixel's contribution to a logit, integrated from a baseline to the image."""

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_vision.explanation.heatmap import heatmaps
from keras_vision.explanation.network import checked_classes, fitting, network_of
from keras_vision.recipe import InputError


def integrated_gradients(
    model: keras.Model,
    images: np.ndarray,
    target_classes: ArrayLike | None = None,
    *,
    layers: None = None,
    batch_size: int = 32,
    baseline: ArrayLike | None = None,
    steps: int = 32,
) -> np.ndarray:
    """Heatmaps of the pixels that raise one class's logit: attributions summed over channels, negative sums as zero.

    Args:
        layers: Must be None, because the method explains pixels, not layers.
        baseline, steps: See `attributions`.

    The other arguments, the result and the errors are those of `class_activation_maps`.

    Reference:
        Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365.
    """
    if layers is not None:
        raise InputError(f"Integrated gradients explain pixels, not layers. Received: layers={layers!r}.")
    values = attributions(model, images, target_classes, batch_size=batch_size, baseline=baseline, steps=steps)
    return heatmaps(values.sum(axis=-1), values.shape[1:-1])


def attributions(
    model: keras.Model,
    images: np.ndarray,
    target_classes: ArrayLike | None = None,
    *,
    batch_size: int = 32,
    baseline: ArrayLike | None = None,
    steps: int = 32,
) -> np.ndarray:
    """Contribution of each pixel and channel to the logit.

    Over an image they sum, up to the integration error, to the difference of the logits of the image and the baseline.

    Args:
        model: A functional or Sequential Keras model.
        images: In `[0, 255]`, shape `(N, H, W, C)` or `(N, D, H, W, C)`.
        target_classes: One for all images, one per image, or None for the predicted classes.
        batch_size: Interpolated images processed at once.
        baseline: Array that broadcasts against the images; None is black.
        steps: Number of points of the midpoint rule.

    Returns:
        Float32 array with the shape of the images.

    Raises:
        InputError: If the model, the images or a class is not supported.
    """
    network = network_of(model)
    images = network.checked(images)
    starts = np.broadcast_to(np.asarray(0 if baseline is None else baseline, np.float32), images.shape)
    targets = checked_classes(target_classes, len(images), network.num_classes(images.shape[1:]))
    batch_size = fitting(batch_size, steps)
    if target_classes is None:
        # The class predicted for the image, not for each interpolated image.
        logits = [part for part, _, _ in network.differentiate(images, None, [0], batch_size)]
        targets = np.concatenate(logits).argmax(axis=1)
    rows = [_attributions(network, *row, batch_size, steps) for row in zip(images, starts, targets, strict=True)]
    return np.stack(rows)


def _attributions(network, image, start, target, batch_size, steps):
    change = np.float32(image) - start
    middles = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    path = start + middles.reshape(-1, *[1] * image.ndim) * change
    gradients = [gradient for _, _, (gradient,) in network.differentiate(path, target, [0], batch_size)]
    return change * np.concatenate(gradients).mean(axis=0)
