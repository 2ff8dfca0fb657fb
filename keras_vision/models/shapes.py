"""What a network says to images that it cannot take."""

from keras_vision.recipe import InputError


def require_pictures(architecture, image_shape, *, at_least, channels=None):
    """Refuses volumes, and pictures that are too small or have other channels.

    Args:
        at_least: Smallest height and width in pixels.
        channels: Numbers of channels that are taken; None takes any.

    Raises:
        InputError: With the shape that was received.
    """
    if len(image_shape) != 3 or min(image_shape[:2]) < at_least:
        raise InputError(
            f"The network {architecture} takes pictures of at least {at_least} x {at_least} pixels, shape (H, W, C). "
            f"Received: images of shape {tuple(image_shape)}."
        )
    if channels and image_shape[-1] not in channels:
        raise InputError(
            f"The network {architecture} takes pictures of {' or '.join(map(str, channels))} channels. "
            f"Received: images of shape {tuple(image_shape)}."
        )


def require_volumes(architecture, image_shape, *, at_least):
    """Refuses pictures and volumes that are too small.

    Args:
        at_least: Smallest depth, height and width in voxels.

    Raises:
        InputError: With the shape that was received.
    """
    if len(image_shape) != 4 or min(image_shape[:3]) < at_least:
        raise InputError(
            f"The network {architecture} takes volumes of at least {at_least} voxels a side, shape (D, H, W, C). "
            f"Received: images of shape {tuple(image_shape)}."
        )
