"""HiResCAM: feature maps times their gradients, position by position."""

import numpy as np

from keras_vision.explanation.class_activation import class_activation_maps


def hires_cam(model, images, target_classes=None, *, layers=None, batch_size=32):
    """Heatmaps of where the model used the feature maps to raise one class's logit.

    With one dense layer after the feature maps they add up to the logit, its bias apart; Grad-CAM's do not.
    See `class_activation_maps` for the arguments, the result and the errors.

    Reference:
        Draelos and Carin 2020, https://arxiv.org/abs/2011.08891.
    """
    return class_activation_maps(_combine, model, images, target_classes, layers, batch_size)


def _combine(maps_NPC, gradients_NPC):
    return np.einsum("npc,npc->np", maps_NPC, gradients_NPC)
