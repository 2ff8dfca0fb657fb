"""Kernels of a first convolution for pictures with another number of channels: gray for colour, and back."""

import numpy as np


def fit_channels(kernel, shape):
    """A convolution's kernel for gray pictures made of one for colour, or the other way round.

    Summed over colours, it gives for a gray picture what it gave for the same gray in every channel; spread evenly over
    colours, it gives for a picture with equal channels what it gave for the gray one.

    Args:
        kernel: Array, shape `(*window, channels, filters)`.
        shape: Shape of the wanted kernel.

    Returns:
        Array of that shape, or None where more than gray and colour lies between them.
    """
    there, here = kernel.shape[-2], shape[-2]
    if kernel.shape[:-2] + kernel.shape[-1:] != tuple(shape[:-2]) + tuple(shape[-1:]) or 1 not in (there, here):
        return None
    return np.repeat(kernel.sum(axis=-2, keepdims=True) / here, here, axis=-2)
