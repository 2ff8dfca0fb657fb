"""Fingerprints of images, to find near duplicates: their lowest frequencies.

Like a perceptual hash (a cosine transform of the small gray image), but with real numbers: the scalar product of two is
their likeness, all pairs are one matrix product, and flips and quarter turns change only signs and positions.
"""

import cv2
import numpy as np

from keras_vision.data.rows import Rows

VERSION = 1
SIDE = 32  # Of the gray image that is transformed.
SHAPE = (8, 8)
# Standard deviation of the gray image, of 255: below it an image counts as plain, and would match every plain image.
LEAST_CONTRAST = 2.0


def _cosines():
    """The first rows of the orthonormal cosine transform (DCT-II), shape `(8, 32)`."""
    places, frequencies = np.arange(SIDE) + 0.5, np.arange(SHAPE[0])[:, np.newaxis]
    rows = np.cos(np.pi / SIDE * frequencies * places) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return rows.astype(np.float32)


COSINES = _cosines()
# The higher a frequency, the less of it images have; the square root evens that out halfway. No mean brightness.
WEIGHTS = np.sqrt(np.hypot(*np.mgrid[: SHAPE[0], : SHAPE[1]])).astype(np.float32)


def small_gray(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """A uint8 image of shape `(H, W, C)` as a gray one of shape `(side, side)`."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[-1] == 3 else image[..., 0]
    method = cv2.INTER_AREA if min(gray.shape) >= side else cv2.INTER_LINEAR
    return cv2.resize(gray, (side, side), interpolation=method)


def fingerprints(images: np.ndarray | Rows) -> np.ndarray:
    """Fingerprints of images.

    Args:
        images: uint8, shape `(N, H, W, C)`, one channel or three.

    Returns:
        Float32 array, shape `(N, 8, 8)`, each of length 1; zeros for an image of one colour.
    """
    prints = np.empty((len(images), *SHAPE), np.float32)
    for start in range(0, len(images), 256):
        grays = np.array([small_gray(image) for image in images[start : start + 256]], np.float32)
        prints[start : start + 256] = WEIGHTS * (COSINES @ grays @ COSINES.T)
        prints[start : start + 256][grays.std(axis=(1, 2)) < LEAST_CONTRAST] = 0
    lengths = np.linalg.norm(prints, axis=(1, 2), keepdims=True)
    return prints / np.maximum(lengths, 1e-6)


def symmetry(prints: np.ndarray, turn: int) -> np.ndarray:
    """Fingerprints of images after `image_files.symmetry`, from the fingerprints before it."""
    signs = np.where(np.arange(SHAPE[0]) % 2, -1, 1).astype(np.float32)
    prints = prints.swapaxes(-1, -2) if turn & 4 else prints
    prints = prints * signs[:, np.newaxis] if turn & 2 else prints
    return prints * signs if turn & 1 else prints
