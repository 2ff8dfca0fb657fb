"""Checks of the image shape that a network accepts."""

from collections.abc import Sequence

from keras_vision.recipe import InputError


def require_pictures(
    architecture: str, image_shape: Sequence[int], *, at_least: int, channels: Sequence[int] | None = None
) -> None:
    """Refuses volumes, and images that are too small or have another number of channels.

    Args:
        at_least: Smallest height and width in pixels.
        channels: Accepted numbers of channels; None accepts any.

    Raises:
        InputError: With the shape that was received.
    """
    if len(image_shape) != 3 or min(image_shape[:2]) < at_least:
        raise InputError(
            f"The network {architecture} takes images of at least {at_least} x {at_least} pixels, shape (H, W, C). "
            f"Received: images of shape {tuple(image_shape)}."
        )
    if channels and image_shape[-1] not in channels:
        raise InputError(
            f"The network {architecture} takes images of {' or '.join(map(str, channels))} channels. "
            f"Received: images of shape {tuple(image_shape)}."
        )


def require_volumes(architecture: str, image_shape: Sequence[int], *, at_least: int) -> None:
    """Refuses 2D images, and volumes that are too small.

    Args:
        at_least: Smallest depth, height and width in voxels.

    Raises:
        InputError: With the shape that was received.
    """
    if len(image_shape) != 4 or min(image_shape[:3]) < at_least:
        raise InputError(
            f"The network {architecture} takes volumes of at least {at_least} voxels per side, shape (D, H, W, C). "
            f"Received: images of shape {tuple(image_shape)}."
        )
