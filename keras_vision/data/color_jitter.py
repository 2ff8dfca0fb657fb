"""Contrast, saturation and hue as torchvision defines them, on float images.

The formulas are those of `torchvision.transforms.functional.adjust_contrast`, `adjust_saturation` and `adjust_hue`
(https://docs.pytorch.org/vision/stable/transforms.html). ColorJitter applies them in a random order; here it is
always contrast, saturation, hue.

Every function changes float32 images of shape `(N, H, W, C)` in `[0, 255]` in place, each by its own number.
"""

import cv2
import numpy as np


def change_contrast(images: np.ndarray, factors: np.ndarray) -> None:
    """Moves every value away from the image's mean gray, or towards it: 0 leaves only that gray.

    Args:
        factors: Array, shape `(N,)`, of at least 0; 1 changes nothing.
    """
    count, _, _, channels = images.shape
    # The mean of a gray image is that of all its values, as in torchvision.
    mean = (_gray(images) if channels == 3 else images).reshape(count, -1).mean(1, keepdims=True)
    factors = np.asarray(factors, np.float32)[:, np.newaxis]
    values = images.reshape(count, -1)
    values *= factors
    values += (1 - factors) * mean
    np.clip(values, 0, 255, out=values)


def change_saturation(images: np.ndarray, factors: np.ndarray) -> None:
    """Moves every pixel of colour images away from its own gray, or towards it: 0 leaves a gray image.

    Args:
        factors: Array, shape `(N,)`, of at least 0; 1 changes nothing.
    """
    count = len(images)
    gray = cv2.cvtColor(_gray(images), cv2.COLOR_GRAY2RGB).reshape(count, -1)
    values = images.reshape(count, -1)
    values -= gray
    values *= np.asarray(factors, np.float32)[:, np.newaxis]
    values += gray
    np.clip(values, 0, 255, out=values)


def change_hue(images: np.ndarray, shifts: np.ndarray) -> None:
    """Rotates the hue of every pixel of colour images; value and saturation (of HSV) stay.

    Args:
        shifts: Array, shape `(N,)`, in `[-0.5, 0.5]`, in turns; 0 changes nothing.
    """
    hsv = cv2.cvtColor(_rows(images), cv2.COLOR_RGB2HSV).reshape(images.shape)
    hue = hsv[..., 0] + 360 * np.asarray(shifts, np.float32)[:, np.newaxis, np.newaxis]
    hue[hue < 0] += 360
    hue[hue >= 360] -= 360
    hsv[..., 0] = hue
    cv2.cvtColor(_rows(hsv), cv2.COLOR_HSV2RGB, dst=_rows(images))
    np.clip(images, 0, 255, out=images)


def _gray(images):
    """Luma of colour images, .299 red + .587 green + .114 blue, shape `(N * H, W)`."""
    return cv2.cvtColor(_rows(images), cv2.COLOR_RGB2GRAY)


def _rows(images):
    """The images as one tall image, a view.

    One row of it is one row of an image, so that an image's last bits do not depend on the others: OpenCV may compute
    the end of a row with other instructions than its start.
    """
    return images.reshape(-1, *images.shape[2:])
