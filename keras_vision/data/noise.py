"""Gaussian noise that depends on an image's own random number, not on its position in a batch."""

import numpy as np


def add_noise(images: np.ndarray, deviation: float, draws: np.ndarray) -> None:
    """Adds noise to every value and clips to `[0, 255]`, in place.

    A row of draws has too few numbers for all pixels, so one of them is the seed: its 53 random bits are the key of a
    Philox generator, whose streams are independent for any two keys (Salmon et al. 2011,
    https://doi.org/10.1145/2063384.2063405).

    Args:
        images: Float32 array, shape `(N, ..., C)`.
        deviation: Standard deviation of the noise, of 255.
        draws: One column of `draws.uniforms`, used for nothing else, shape `(N,)`.
    """
    for image, draw in zip(images, draws, strict=True):
        generator = np.random.Generator(np.random.Philox(key=int(draw * 2**53)))
        image += np.float32(deviation) * generator.standard_normal(image.shape, np.float32)
    np.clip(images, 0, 255, out=images)
