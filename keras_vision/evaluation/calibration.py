"""Calibration: of the images with a confidence of 80 %, are 80 % correct?"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reliability:
    """The reliability curve of the predicted class.

    Attributes:
        confidence: Mean probability in each bin that has images.
        accuracy: Share of correct predictions in each of them.
        count: Images in each of them.
        expected_calibration_error: Mean absolute gap between confidence and accuracy, weighted by count; 0 is perfect.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray
    expected_calibration_error: float


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> Reliability:
    """The reliability curve over equal-width bins of confidence.

    Args:
        labels: Int array, shape `(N,)`.
        probabilities: Shape `(N, K)`.
        bins: Number of bins over `[0, 1]`.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3, with its 15 bins.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    filled = count > 0
    mean_confidence = np.bincount(bin_of, confidence, bins)[filled] / count[filled]
    accuracy = np.bincount(bin_of, correct, bins)[filled] / count[filled]
    error = float(np.sum(count[filled] * np.abs(mean_confidence - accuracy)) / count.sum())
    return Reliability(mean_confidence, accuracy, count[filled], error)
