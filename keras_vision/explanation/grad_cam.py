"""Grad-CAM: feature maps weighted by the mean of their gradients."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_vision.explanation.class_activation import class_activation_maps, weighted_sum


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    target_classes: ArrayLike | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    batch_size: int = 32,
) -> np.ndarray | list[np.ndarray]:
    """Heatmaps of the regions that raise one class's logit, with one weight per channel.

    See `class_activation_maps` for the arguments, the result and the errors.

    Reference:
        Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.
    """
    return class_activation_maps(_combine, model, images, target_classes, layers, batch_size)


def _combine(maps_NPC, gradients_NPC):
    return weighted_sum(maps_NPC, gradients_NPC.mean(axis=1))
