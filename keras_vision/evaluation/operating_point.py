"""A two-class classifier as a detector: sensitivity and specificity at a threshold on one class's probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from keras_vision.evaluation.effective import effective_count, wilson
from keras_vision.evaluation.interval import Interval
from keras_vision.evaluation.resampling import numbered


@dataclass(frozen=True)
class OperatingPoint:
    """A two-class classifier as a detector of one class.

    Attributes:
        positive: Label of the class to detect, 0 or 1.
        threshold: Smallest probability of that class that counts as a detection, chosen on the validation split.
        chosen: `sensitivity` and `specificity` at that threshold, with 95 % Wilson intervals.
        half: The same where the predicted class is the positive one: at a probability of one half.
        curve: ROC curve of the evaluated split, shape `(2, M)`: false positive rates, true positive rates.
    """

    positive: int
    threshold: float
    chosen: dict[str, Interval]
    half: dict[str, Interval]
    curve: np.ndarray

    def to_dict(self, class_names: tuple[str, ...]) -> dict[str, Any]:
        """JSON-ready values, without the curve."""
        return {
            "positive": class_names[self.positive],
            "threshold": self.threshold,
            "at_threshold": {name: values.to_dict() for name, values in self.chosen.items()},
            "at_one_half": {name: values.to_dict() for name, values in self.half.items()},
        }


def operating_point(
    labels: np.ndarray,
    probabilities: np.ndarray,
    val_labels: np.ndarray,
    val_probabilities: np.ndarray,
    positive: int,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
) -> OperatingPoint | None:
    """Chooses a threshold on the validation split and evaluates it on another.

    The threshold maximizes the sum of sensitivity and specificity on validation. It is halfway between the
    probabilities of the two images that it separates.

    Args:
        labels: Int array, shape `(N,)`, of 0 and 1.
        probabilities: Float array, shape `(N, 2)`.
        val_labels, val_probabilities: The same for the validation split.
        positive: Label of the class to detect.
        groups: The group of each image; the intervals are then those of as many images as these are worth, see
            `effective_count`. None where every image is independent.

    Returns:
        An `OperatingPoint`, or None if either split lacks a class.

    Reference:
        Youden 1950, https://doi.org/10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3.
    """
    if min(len(np.unique(labels)), len(np.unique(val_labels))) < 2:
        return None
    threshold = _youden(val_labels == positive, val_probabilities[:, positive])
    is_positive, scores = labels == positive, probabilities[:, positive]
    members = None if groups is None else numbered(groups)
    false_positive_rates, true_positive_rates, _ = roc_curve(is_positive, scores)
    return OperatingPoint(
        positive=positive,
        threshold=threshold,
        chosen=_rates(is_positive, scores >= threshold, members),
        half=_rates(is_positive, probabilities.argmax(axis=1) == positive, members),
        curve=np.stack([false_positive_rates, true_positive_rates]),
    )


def _youden(is_positive, scores):
    false, true, thresholds = roc_curve(is_positive, scores, drop_intermediate=False)
    best = int(np.argmax(true - false))
    below = scores[scores < thresholds[best]]
    # The first threshold of a ROC curve is infinite: no detections.
    upper = min(float(thresholds[best]), 1.0)
    return (upper + float(below.max())) / 2 if len(below) else upper


def _rates(is_positive, detected, members):
    return {
        "sensitivity": _share(detected, is_positive, members),
        "specificity": _share(~detected, ~is_positive, members),
    }


def _share(hits, among, members):
    hits = hits[among]
    value = float(hits.mean())
    if members is None:
        low, high = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    else:
        low, high = wilson(value, effective_count(hits, members[among]))
    return Interval(value, float(low), float(high))
