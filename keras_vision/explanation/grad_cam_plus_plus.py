"""Grad-CAM++: positive gradients, weighted so that each of several objects counts in full."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_vision.explanation.class_activation import class_activation_maps, weighted_sum

EPSILON = 1e-6  # That of the package `grad-cam`, so that heatmaps can be compared.


def grad_cam_plus_plus(
    model: keras.Model,
    images: np.ndarray,
    target_classes: ArrayLike | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    batch_size: int = 32,
) -> np.ndarray | list[np.ndarray]:
    """Heatmaps of the regions that raise one class's logit, including small and repeated ones.

    See `class_activation_maps` for the arguments, the result and the errors.

    Reference:
        Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063, equations 5 and 19: the score is the exponential of
        the logit, so that its higher derivatives are powers of the first.
    """
    return class_activation_maps(_combine, model, images, target_classes, layers, batch_size)


def _combine(maps_NPC, gradients_NPC):
    sums = maps_NPC.sum(axis=1, keepdims=True)
    squares = gradients_NPC**2
    denominators = 2 * squares + sums * gradients_NPC * squares + EPSILON
    # Positions without a positive gradient get no weight; their denominators may be zero.
    counted = (gradients_NPC > 0) & (denominators != 0)
    alphas = np.divide(squares, denominators, out=np.zeros_like(squares), where=counted)
    return weighted_sum(maps_NPC, (alphas * np.maximum(gradients_NPC, 0)).sum(axis=1))
