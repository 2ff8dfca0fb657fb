"""LayerCAM: feature maps times their positive gradients, position by position; fine detail from early layers."""

import numpy as np

from keras_vision.explanation.class_activation import class_activation_maps


def layer_cam(model, images, target_classes=None, *, layers=None, batch_size=32):
    """Heatmaps that stay sharp at layers before the last.

    See `class_activation_maps` for the arguments, the result and the errors.

    Reference:
        Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943, equations 5 and 6.
    """
    return class_activation_maps(_combine, model, images, target_classes, layers, batch_size)


def _combine(maps_NPC, gradients_NPC):
    return np.einsum("npc,npc->np", maps_NPC, np.maximum(gradients_NPC, 0))
