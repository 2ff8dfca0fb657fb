"""Kernels of a first convolution, converted from RGB to gray images and back."""

from collections.abc import Sequence

import numpy as np


def fit_channels(kernel: np.ndarray, shape: Sequence[int]) -> np.ndarray | None:
    """Converts a convolution's kernel for colour images into one for gray images, or the reverse.

    Summing over the channels keeps the output for a gray image that was repeated to all channels; spreading evenly
    over the channels keeps the output for an image with equal channels.

    Args:
        kernel: Array, shape `(*window, channels, filters)`.
        shape: Shape of the required kernel.

    Returns:
        Array of that shape; None if the shapes differ in more than the channels, or neither has one channel.
    """
    source, target = kernel.shape[-2], shape[-2]
    if kernel.shape[:-2] + kernel.shape[-1:] != tuple(shape[:-2]) + tuple(shape[-1:]) or 1 not in (source, target):
        return None
    return np.repeat(kernel.sum(axis=-2, keepdims=True) / target, target, axis=-2)
