"""Images that arrive late, as from a slow disk or a network: to see a slow input pipeline on any machine."""

import time
from typing import Any

import numpy as np


class SlowImages:
    """An array of images that waits before each read.

    Args:
        images: Shape `(N, ...)`.
        seconds: Waiting time for each image.
    """

    def __init__(self, images: np.ndarray, seconds: float) -> None:
        self._images, self.seconds = images, seconds
        self.shape, self.dtype, self.ndim = images.shape, images.dtype, images.ndim

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> np.ndarray:
        images = self._images[index]
        time.sleep(self.seconds * (len(images) if images.ndim == self.ndim else 1))
        return images
