"""LayerCAM: feature maps times their positive gradients, position by position; fine detail from early layers."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_vision.explanation.class_activation import class_activation_maps


def layer_cam(
    model: keras.Model,
    images: np.ndarray,
    target_classes: ArrayLike | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    batch_size: int = 32,
) -> np.ndarray | list[np.ndarray]:
    """Heatmaps that stay sharp at early layers.

    See `class_activation_maps` for the arguments, the result and the errors.

    Reference:
        Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943, equations 5 and 6.
    """
    return class_activation_maps(_combine, model, images, target_classes, layers, batch_size)


def _combine(maps_NPC, gradients_NPC):
    return np.einsum("npc,npc->np", maps_NPC, np.maximum(gradients_NPC, 0))
