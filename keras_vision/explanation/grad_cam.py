"""Grad-CAM: feature maps weighted by the mean of their gradients."""

from keras_vision.explanation.class_activation import class_activation_maps, weighted_sum


def grad_cam(model, images, target_classes=None, *, layers=None, batch_size=32):
    """Heatmaps of the regions that raise one class's logit, with one weight for each channel.

    See `class_activation_maps` for the arguments, the result and the errors.

    Reference:
        Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.
    """
    return class_activation_maps(_combine, model, images, target_classes, layers, batch_size)


def _combine(maps_NPC, gradients_NPC):
    return weighted_sum(maps_NPC, gradients_NPC.mean(axis=1))
