"""From a map at the feature maps' size to a heatmap at the image's: cut, enlarged, scaled."""

import numpy as np


def heatmaps(maps, image_size):
    """Heatmaps of maps: negative values cut, enlarged to the images, each scaled by its maximum.

    Args:
        maps: Shape `(N, *size)`, with any number of axes.
        image_size: The images' size, as many axes.

    Returns:
        Float32 array, shape `(N, *image_size)`, in `[0, 1]`; all zeros where no value is above zero.
    """
    resized = resize(np.maximum(maps, 0), image_size)
    largest = resized.max(axis=tuple(range(1, resized.ndim)), keepdims=True)
    return np.divide(resized, largest, out=np.zeros_like(resized), where=largest > 0)


def resize(maps, image_size):
    """Linear interpolation with the centres of pixels at halves, as OpenCV's `INTER_LINEAR`, along every axis.

    Args:
        maps: Shape `(N, *size)`.
        image_size: As many axes as `size`.

    Returns:
        Float32 array, shape `(N, *image_size)`.
    """
    maps = np.asarray(maps, np.float32)
    for axis, side in enumerate(image_size, start=1):
        if maps.shape[axis] != side:
            maps = np.moveaxis(np.tensordot(maps, _interpolation(maps.shape[axis], side), (axis, 1)), -1, axis)
    return np.ascontiguousarray(maps)


def _interpolation(before, after):
    """The matrix, shape `(after, before)`, that interpolates along one axis; the outer half pixels are constant."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    distances = np.abs(places[:, np.newaxis] - np.arange(before))
    return np.maximum(0, 1 - distances).astype(np.float32)
