"""All metrics of a classifier of which an image can have several labels, or none; each with a 95 % interval.

Every label is a yes or no of its own: a score of at least its threshold is a yes. Thresholds come from validation.

Shapes: B resamples, N images, K labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import precision_recall_curve

from keras_vision.evaluation.calibration import Reliability, reliability
from keras_vision.evaluation.effective import effective_count
from keras_vision.evaluation.interval import Interval
from keras_vision.evaluation.metrics import auc, average_precision, ratio
from keras_vision.evaluation.resampling import numbered, quantiles, resampled

HALF = 0.5
# Resamples x images x labels: 200 million take about half a minute. With more of them there are fewer resamples.
_RESAMPLED = 200_000_000
_FEWEST = 100
_BINS = 15


@dataclass(frozen=True)
class LabelMetrics:
    """The metrics of one label.

    Attributes:
        auc: Area under the ROC curve.
        average_precision: Mean precision over the thresholds that each find one more image that has the label.
        precision, recall, specificity, f1: At the threshold; recall is also called sensitivity.
        threshold: Smallest score that counts as a yes; their mean over the images where models differ.
        support: Number of images that have the label.
    """

    auc: Interval
    average_precision: Interval
    precision: Interval
    recall: Interval
    specificity: Interval
    f1: Interval
    threshold: float
    support: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        intervals = {name: part for name, part in vars(self).items() if isinstance(part, Interval)}
        numbers = {"threshold": self.threshold, "support": self.support}
        return {**{name: values.to_dict() for name, values in intervals.items()}, **numbers}


@dataclass(frozen=True)
class LabelsJudgement:
    """A classifier's metrics on a split whose images can have several labels.

    Attributes:
        metrics: `auc`, `average_precision` and `macro_f1`, means over the labels that have images; `micro_f1`, of all
            yes and no together; `exact_match`, the share of the images with every label right; `label_accuracy`, the
            share of all yes and no that is right at one half, which MedMNIST calls ACC; `expected_calibration_error`.
        classes: The metrics of each label, in order.
        calibration: The reliability curve of all yes and no.
        right: Bool array, shape `(N,)`: whether an image has every label right.
        groups, effective: As in `Judgement`.
    """

    metrics: dict[str, Interval]
    classes: list[LabelMetrics]
    calibration: Reliability
    right: np.ndarray
    groups: int | None = None
    effective: int | None = None
    main: ClassVar[str] = "exact_match"
    headline: ClassVar[tuple[str, ...]] = ("exact_match", "auc", "average_precision", "macro_f1")

    @property
    def thresholds(self) -> np.ndarray:
        """The threshold of each label, shape `(K,)`."""
        return np.array([row.threshold for row in self.classes])

    @property
    def correct(self) -> int:
        """Number of images with every label right."""
        return int(self.right.sum())

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.right)

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON-ready values."""
        return {name: values.to_dict() for name, values in self.metrics.items()}


def sigmoid(logits: Any) -> np.ndarray:
    """Scores of logits, one by one, as float64."""
    half = np.asarray(logits, np.float64) / 2
    return (1 + np.tanh(half)) / 2


def choose_thresholds(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The threshold of each label that gives it the highest F1, to be chosen on validation images.

    It is halfway between the scores of the two images that it separates; one half for a label that no image has.

    Args:
        labels: Array of 0 and 1, shape `(N, K)`.
        scores: Float array, shape `(N, K)`.
    """
    return np.array([_threshold(labels[:, k] == 1, scores[:, k]) for k in range(labels.shape[1])])


def _threshold(positive, scores):
    if not positive.any():
        return HALF
    precision, recall, thresholds = precision_recall_curve(positive, scores)
    best = thresholds[int(np.argmax(ratio(2 * precision * recall, precision + recall, empty=0.0)[:-1]))]
    below = scores[scores < best]
    return float((best + below.max()) / 2) if len(below) else float(best)


def judge_labels(
    labels: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> LabelsJudgement:
    """Computes all metrics, with percentile bootstrap intervals over the images or groups, see `judge`.

    Where images, labels and resamples multiply to more than 200 million, there are fewer resamples, at least 100.

    Args:
        labels: Array of 0 and 1, shape `(N, K)`.
        scores: Float array, shape `(N, K)`, from 0 to 1.
        thresholds: Shape `(K,)`; or `(N, K)` where images were judged by models that differ.
        groups: The group of each image; None where every image is independent.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.
    """
    labels = np.asarray(labels, bool)
    images = _Images(labels, scores, scores >= thresholds)
    plain = _metrics(images, np.ones((1, len(labels))))
    count = min(resamples, max(_FEWEST, _RESAMPLED // labels.size))
    members = None if groups is None else numbered(groups)
    samples = resampled(lambda weights: _metrics(images, weights), len(labels), count, seed, members)
    intervals: dict[str, Any] = {name: (values[0], *quantiles(samples[name])) for name, values in plain.items()}
    num_groups = None if members is None else int(members.max()) + 1
    if num_groups == 1:  # Every resample is the same, which says nothing about other groups.
        intervals = {name: (found[0], *[np.full_like(found[0], np.nan)] * 2) for name, found in intervals.items()}
    rows = ("auc", "average_precision", "precision", "recall", "specificity", "f1")
    return LabelsJudgement(
        metrics={
            name: Interval(*map(float, values)) for name, values in intervals.items() if not name.startswith("label ")
        },
        classes=[
            LabelMetrics(
                **{name: Interval(*(float(part[k]) for part in intervals[f"label {name}"])) for name in rows},
                threshold=float(np.mean(thresholds[..., k])),
                support=int(labels[:, k].sum()),
            )
            for k in range(labels.shape[1])
        ],
        calibration=reliability(labels.ravel().astype(int), np.stack([1 - scores.ravel(), scores.ravel()], axis=1)),
        right=images.right,
        groups=num_groups,
        effective=None if members is None else effective_count(images.right, members),
    )


class _Images:
    """What every resample needs of the images, computed once."""

    def __init__(self, labels, scores, decided):
        self.labels, self.scores = labels, scores
        self.hits, self.false, self.missed = (
            part.astype(float) for part in (labels & decided, ~labels & decided, labels & ~decided)
        )
        self.right = (labels == decided).all(axis=1)
        at_half = (scores >= HALF) == labels
        self.right_at_half = at_half.mean(axis=1)
        confidence = np.maximum(scores, 1 - scores)
        bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
        # How much too sure the answers about an image are, by bin.
        self.gaps = np.zeros((len(labels), _BINS))
        np.add.at(self.gaps, (np.arange(len(labels))[:, None], bins), confidence - at_half)


def _metrics(images, weights):
    """Every metric of every resample: `{name: (B,) or (B, K) array}`."""
    count = weights.sum(axis=1)
    hits, false, missed = (weights @ part for part in (images.hits, images.false, images.missed))
    support = hits + missed
    rows = {
        "auc": np.stack([auc(yes, scores, weights) for yes, scores in _columns(images)], axis=1),
        "average_precision": np.stack([average_precision(*column, weights) for column in _columns(images)], axis=1),
        "precision": ratio(hits, hits + false, empty=0.0),
        "recall": ratio(hits, support),
        "specificity": 1 - ratio(false, count[:, None] - support),
        "f1": ratio(2 * hits, 2 * hits + false + missed, empty=0.0),
    }
    present = support > 0
    means = {name: _mean(rows[name], present & ~np.isnan(rows[name])) for name in ("auc", "average_precision", "f1")}
    return {
        "exact_match": weights @ images.right / count,
        "auc": means["auc"],
        "average_precision": means["average_precision"],
        "macro_f1": means["f1"],
        "micro_f1": ratio(2 * hits.sum(1), (2 * hits + false + missed).sum(1), empty=0.0),
        "label_accuracy": weights @ images.right_at_half / count,
        "expected_calibration_error": np.abs(weights @ images.gaps).sum(axis=1) / (count * images.labels.shape[1]),
        **{f"label {name}": values for name, values in rows.items()},
    }


def _columns(images):
    return zip(images.labels.T, images.scores.T, strict=True)


def _mean(values, present):
    return ratio(np.where(present, values, 0).sum(axis=1), present.sum(axis=1))
