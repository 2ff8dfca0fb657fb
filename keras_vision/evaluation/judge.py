"""All metrics of one classifier on one split, each with a 95 % interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_vision.evaluation.auc_intervals import auc_intervals
from keras_vision.evaluation.calibration import Reliability, calibration_errors, reliability
from keras_vision.evaluation.effective import effective_count
from keras_vision.evaluation.interval import Interval
from keras_vision.evaluation.metrics import (
    METRICS,
    class_auc,
    class_counts,
    confusion_matrix,
    per_class,
    quadratic_kappa,
)
from keras_vision.evaluation.resampling import numbered, quantiles, resampled

# Resamples x images x classes above which the AUC is not resampled: 200 million take about ten seconds.
_RESAMPLED_AUC = 200_000_000


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class against the rest, and its number of images."""

    precision: Interval
    recall: Interval
    f1: Interval
    auc: Interval
    support: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        intervals = {"precision": self.precision, "recall": self.recall, "f1": self.f1, "auc": self.auc}
        return {**{name: values.to_dict() for name, values in intervals.items()}, "support": self.support}


@dataclass(frozen=True)
class Judgement:
    """A classifier's metrics on a split.

    Attributes:
        metrics: Those of `metrics.METRICS`, `auc` (one class against the rest, mean over the classes that have images)
            and `expected_calibration_error`; of ordered classes also `quadratic_kappa`.
        classes: The metrics of each class, in the order of the labels.
        confusion: Int array, shape `(K, K)`; rows are true classes.
        calibration: The reliability curve.
        groups: How many groups of images the intervals were resampled by; None where they were resampled by image.
        effective: How many independent images the accuracy is worth, see `effective_count`; None without groups.
    """

    metrics: dict[str, Interval]
    classes: list[ClassMetrics]
    confusion: np.ndarray
    calibration: Reliability
    groups: int | None = None
    effective: int | None = None
    main: ClassVar[str] = "accuracy"

    @property
    def ordered(self) -> bool:
        """Whether the classes are grades."""
        return "quadratic_kappa" in self.metrics

    @property
    def headline(self) -> tuple[str, ...]:
        """Names of the metrics that come first: of grades, how far off they are as well."""
        return ("accuracy", "balanced_accuracy", "macro_f1", "auc", *["quadratic_kappa"] * self.ordered)

    @property
    def correct(self) -> int:
        """Number of images classified correctly."""
        return int(np.trace(self.confusion))

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.confusion.sum())

    def to_dict(self) -> dict[str, Any]:
        """The metrics as JSON-ready values."""
        return {name: values.to_dict() for name, values in self.metrics.items()}


def judge(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    ordered: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Judgement:
    """Computes all metrics, with intervals.

    The intervals are percentile bootstrap: the images, or with `groups` whole groups, are resampled with replacement,
    `resamples` times, and every metric is computed again. They cover the choice of the test images, not the variation
    between training runs. Where images, classes and resamples multiply to more than 200 million, the intervals of the
    AUC are those of DeLong's formula. A single group has no intervals.

    Args:
        labels: Int array, shape `(N,)`.
        probabilities: Float array, shape `(N, K)`.
        groups: The group of each image, such as its patient; None where every image is independent.
        ordered: Whether the classes are grades, labelled in their order.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        A `Judgement`.
    """
    count, num_classes = probabilities.shape
    images = _Images(labels, probabilities, resamples * count * num_classes <= _RESAMPLED_AUC, ordered)
    members = None if groups is None else numbered(groups)
    plain = _all_metrics(images, np.ones((1, count)))
    samples = resampled(lambda weights: _all_metrics(images, weights), count, resamples, seed, members)
    intervals: dict[str, Any] = {name: (values[0], *quantiles(samples[name])) for name, values in plain.items()}
    if not images.resampled_auc:
        intervals["class_auc"], intervals["auc"] = auc_intervals(labels, probabilities, members)
    num_groups = None if members is None else int(members.max()) + 1
    if num_groups == 1:  # Every resample is the same, which says nothing about other groups.
        intervals = {name: (found[0], *[np.full_like(found[0], np.nan)] * 2) for name, found in intervals.items()}
    scalars = [*METRICS, "auc", "expected_calibration_error", *["quadratic_kappa"] * ordered]
    return Judgement(
        metrics={name: Interval(*map(float, intervals[name])) for name in scalars},
        classes=[_class_row(intervals, k, labels) for k in range(num_classes)],
        confusion=confusion_matrix(labels, images.predicted, num_classes).astype(int),
        calibration=reliability(labels, probabilities),
        groups=num_groups,
        effective=None if members is None else effective_count(images.predicted == labels, members),
    )


class _Images:
    """What every resample needs of the images, computed once."""

    def __init__(self, labels, probabilities, resampled_auc, ordered):
        self.labels, self.probabilities = labels, probabilities
        self.resampled_auc, self.ordered = resampled_auc, ordered
        self.predicted, self.confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)


def _class_row(intervals, k, labels):
    names = ("precision", "recall", "f1", "auc")
    row = {name: Interval(*(float(part[k]) for part in intervals[f"class_{name}"])) for name in names}
    return ClassMetrics(**row, support=int(np.sum(labels == k)))


def _all_metrics(images, weights):
    """Every metric of every resample: `{name: (B,) or (B, K) array}`."""
    counts = class_counts(images.labels, images.predicted, images.probabilities.shape[1], weights)
    values = {name: metric(counts) for name, metric in METRICS.items()}
    values |= {f"class_{name}": row for name, row in per_class(counts).items() if name != "support"}
    correct = images.predicted == images.labels
    values["expected_calibration_error"] = calibration_errors(images.confidence, correct, weights)
    if images.ordered:
        num_classes = images.probabilities.shape[1]
        values["quadratic_kappa"] = quadratic_kappa(images.labels, images.predicted, num_classes, weights)
    if images.resampled_auc:
        auc = class_auc(images.labels, images.probabilities, weights)
        values["class_auc"] = auc
        present = ~np.isnan(auc)
        with np.errstate(invalid="ignore"):  # With a single class the AUC is NaN.
            values["auc"] = np.where(present, auc, 0).sum(axis=1) / present.sum(axis=1)
    return values
