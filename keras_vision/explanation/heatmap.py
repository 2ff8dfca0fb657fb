"""Turns maps of the feature maps' size into heatmaps of the image's size."""

from collections.abc import Sequence

import numpy as np


def heatmaps(maps: np.ndarray, image_size: Sequence[int]) -> np.ndarray:
    """Sets negative values to zero, resizes to the image and divides each map by its maximum.

    Args:
        maps: Shape `(N, *size)`, with any number of axes.
        image_size: Size of the images, with as many axes as `size`.

    Returns:
        Float32 array, shape `(N, *image_size)`, in `[0, 1]`; all zeros where no value is positive.
    """
    resized = resize(np.maximum(maps, 0), image_size)
    largest = resized.max(axis=tuple(range(1, resized.ndim)), keepdims=True)
    return np.divide(resized, largest, out=np.zeros_like(resized), where=largest > 0)


def resize(maps: np.ndarray, image_size: Sequence[int]) -> np.ndarray:
    """Linear interpolation along every axis with pixel centres at half integers, like OpenCV's `INTER_LINEAR`.

    Args:
        maps: Shape `(N, *size)`.
        image_size: Target size, with as many axes as `size`.

    Returns:
        Float32 array, shape `(N, *image_size)`.
    """
    maps = np.asarray(maps, np.float32)
    for axis, side in enumerate(image_size, start=1):
        if maps.shape[axis] != side:
            maps = np.moveaxis(np.tensordot(maps, _interpolation(maps.shape[axis], side), (axis, 1)), -1, axis)
    return np.ascontiguousarray(maps)


def _interpolation(before, after):
    """Matrix that interpolates along one axis, shape `(after, before)`; constant beyond the outermost centres."""
    positions = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    distances = np.abs(positions[:, np.newaxis] - np.arange(before))
    return np.maximum(0, 1 - distances).astype(np.float32)
