"""Gaussian noise that depends on an image's own random number, not on its place in a batch."""

import numpy as np


def add_noise(images, deviation, draws):
    """Adds noise to every value and cuts to `[0, 255]`, in place.

    A row of draws is too short to have a number for every pixel, so one of its numbers seeds them all: its 53 random
    bits are the key of a Philox generator, whose streams are independent for any two keys (Salmon et al. 2011,
    https://doi.org/10.1145/2063384.2063405).

    Args:
        images: Float32 array, shape `(N, ..., C)`.
        deviation: Standard deviation of the noise, of 255.
        draws: One column of `uniforms`, used for nothing else, shape `(N,)`.
    """
    for image, draw in zip(images, draws, strict=True):
        generator = np.random.Generator(np.random.Philox(key=int(draw * 2**53)))
        image += np.float32(deviation) * generator.standard_normal(image.shape, np.float32)
    np.clip(images, 0, 255, out=images)
