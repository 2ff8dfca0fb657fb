"""Calibration: of the images with a confidence of 80 %, are 80 % correct?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from keras_vision.evaluation.interval import Interval
from keras_vision.evaluation.resampling import numbered, quantiles, resampled

BINS = 15
# Of a temperature: beyond these, the scores of a network say nothing.
COLDEST, HOTTEST = 0.05, 50.0


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


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Reliability:
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


def calibration_errors(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray, bins: int = BINS
) -> np.ndarray:
    """The expected calibration error of each resample, shape `(B,)`; see `reliability`.

    Args:
        confidence: Probability of each image's predicted class, shape `(N,)`.
        correct: Whether that class is right, shape `(N,)`.
        weights: How many times each image counts in each resample, shape `(B, N)`.
    """
    member = np.eye(bins)[np.minimum((confidence * bins).astype(int), bins - 1)]
    gaps = (weights * (confidence - correct)) @ member
    return np.abs(gaps).sum(axis=1) / weights.sum(axis=1)


@dataclass(frozen=True)
class Temperature:
    """What dividing a network's logits by a temperature does to its scores.

    The order of the classes, and so every answer, stays.

    Attributes:
        value: Above 1 where the network was too sure of itself, below 1 where it was not sure enough.
        images: How many validation images it was fitted on.
        before: `expected_calibration_error` and `negative_log_likelihood` of the evaluated split with the scores as
            they were, with 95 % intervals.
        after: The same with the new scores.
    """

    value: float
    images: int
    before: dict[str, Interval]
    after: dict[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        parts = {"before": self.before, "after": self.after}
        shown = {name: {key: found.to_dict() for key, found in part.items()} for name, part in parts.items()}
        return {"temperature": self.value, "validation_images": self.images, **shown}


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """The temperature with which logits have the lowest negative log-likelihood.

    Labels are smoothed as if one image more had been seen of each wrong class, so that a network without mistakes on
    these images is not called certain.

    Args:
        labels: Int array, shape `(N,)`.
        logits: Shape `(N, K)`.

    Reference:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2; the smoothing is that of Platt 1999, section 2.2
        of "Probabilistic outputs for support vector machines".
    """
    count, num_classes = logits.shape
    targets = np.full(logits.shape, 1 / (count + num_classes))
    targets[np.arange(count), labels] += count / (count + num_classes)

    def loss(log_temperature):
        return -np.mean(np.sum(targets * log_softmax(logits / np.exp(log_temperature), axis=1), axis=1))

    found = minimize_scalar(loss, bounds=np.log([COLDEST, HOTTEST]), method="bounded")
    return float(np.exp(found.x))


def judge_temperature(
    value: float,
    images: int,
    labels: np.ndarray,
    logits: np.ndarray,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Temperature:
    """What a temperature does to the scores of a split.

    Args:
        value: The temperature.
        images: How many images it was fitted on.
        labels: Int array, shape `(N,)`.
        logits: As they were before, shape `(N, K)`.
        groups: The group of each image; None where every image is independent.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
    """
    members = None if groups is None else numbered(groups)
    rows = np.arange(len(labels))

    def judged(scaled):
        logs = log_softmax(scaled, axis=1)
        losses, confidence, correct = -logs[rows, labels], np.exp(logs.max(axis=1)), logs.argmax(axis=1) == labels

        def metrics(weights):
            return {
                "expected_calibration_error": calibration_errors(confidence, correct, weights),
                "negative_log_likelihood": weights @ losses / weights.sum(axis=1),
            }

        plain = metrics(np.ones((1, len(labels))))
        samples = resampled(metrics, len(labels), resamples, seed, members)
        return {name: Interval(float(found[0]), *map(float, quantiles(samples[name]))) for name, found in plain.items()}

    return Temperature(value, images, judged(logits), judged(logits / value))
