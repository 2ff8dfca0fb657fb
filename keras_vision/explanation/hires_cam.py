"""HiResCAM: feature maps times their gradients, position by position."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_vision.explanation.class_activation import class_activation_maps


def hires_cam(
    model: keras.Model,
    images: np.ndarray,
    target_classes: ArrayLike | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    batch_size: int = 32,
) -> np.ndarray | list[np.ndarray]:
    """Heatmaps of the positions whose feature maps raise one class's logit.

    Where a single dense layer follows the feature maps, the values before clipping sum to the logit minus its bias;
    those of Grad-CAM do not.
    See `class_activation_maps` for the arguments, the result and the errors.

    Reference:
        Draelos and Carin 2020, https://arxiv.org/abs/2011.08891.
    """
    return class_activation_maps(_combine, model, images, target_classes, layers, batch_size)


def _combine(maps_NPC, gradients_NPC):
    return np.einsum("npc,npc->np", maps_NPC, gradients_NPC)
