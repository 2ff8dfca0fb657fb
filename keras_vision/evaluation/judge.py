"""All figures of one classifier on one split, each with a 95 % interval."""

import math
import warnings
from dataclasses import dataclass

import numpy as np

from keras_vision.evaluation.calibration import Reliability, reliability
from keras_vision.evaluation.metrics import METRICS, class_auc, confusion_matrix, per_class

_CHUNK = 50  # Resamples worked on at once: bounds the memory at 50 x 10,000 images x a few arrays of 8 bytes.


@dataclass(frozen=True)
class Judgement:
    """A classifier's figures on a split.

    Attributes:
        figures: `{name: (value, low, high)}`, with the ends of the 95 % interval; names as in `metrics.METRICS`, and
            `auc` (one class against the rest, mean over classes) and `expected_calibration_error`.
        classes: One dict a class: `precision`, `recall`, `f1`, `auc` as `(value, low, high)`, and `support`.
        confusion: Int array, shape `(K, K)`; rows are true classes.
        calibration: The reliability curve.
    """

    figures: dict[str, tuple[float, ...]]
    classes: list[dict]
    confusion: np.ndarray
    calibration: Reliability


def interval(values):
    """`(value, low, high)` as JSON has them: `{"value": ..., "low": ..., "high": ...}`, None for what is not finite."""
    value, low, high = (part if math.isfinite(part) else None for part in values)
    return {"value": value, "low": low, "high": high}


def judge(labels, probabilities, *, resamples=1000, seed=0):
    """Judges probabilities against labels.

    The intervals are percentile bootstrap: the images are drawn again with replacement, `resamples` times, and every
    figure is computed anew. They say what another test set of this size could have given, not another training.

    Args:
        labels: Int array, shape `(N,)`.
        probabilities: Float array, shape `(N, K)`.
        resamples: Bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        A `Judgement`.
    """
    count, num_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    plain = _all_figures(labels, probabilities, predicted, np.ones((1, count)))
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = []
    for start in range(0, resamples, _CHUNK):
        weights = rng.multinomial(count, np.full(count, 1 / count), size=min(_CHUNK, resamples - start))
        drawn.append(_all_figures(labels, probabilities, predicted, weights.astype(float)))
    intervals = {}
    for name, values in plain.items():
        samples = np.concatenate([part[name] for part in drawn])
        low, high = _quantiles(samples)
        intervals[name] = (values[0], low, high)
    scalars = [*METRICS, "auc", "expected_calibration_error"]
    return Judgement(
        figures={name: tuple(float(part) for part in intervals[name]) for name in scalars},
        classes=[_class_row(intervals, k, labels) for k in range(num_classes)],
        confusion=confusion_matrix(labels, predicted, num_classes).astype(int),
        calibration=reliability(labels, probabilities),
    )


def _quantiles(samples):
    """The 2.5 % and 97.5 % quantiles over the first axis, over the resamples that have the figure."""
    with warnings.catch_warnings():
        # A class that is in no resample has no interval: NaN, and no warning.
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanquantile(samples, [0.025, 0.975], axis=0)


def _class_row(intervals, k, labels):
    names = ("precision", "recall", "f1", "auc")
    row = {name: tuple(float(part[k]) for part in intervals[f"class_{name}"]) for name in names}
    return {**row, "support": int(np.sum(labels == k))}


def _all_figures(labels, probabilities, predicted, weights):
    """Every figure of every resample: `{name: (B,) or (B, K) array}`."""
    confusion = confusion_matrix(labels, predicted, probabilities.shape[1], weights)
    figures = {name: metric(confusion) for name, metric in METRICS.items()}
    figures |= {f"class_{name}": values for name, values in per_class(confusion).items() if name != "support"}
    auc = class_auc(labels, probabilities, weights)
    figures["class_auc"] = auc
    present = ~np.isnan(auc)
    with np.errstate(invalid="ignore"):  # One class alone has no AUC: NaN.
        figures["auc"] = np.where(present, auc, 0).sum(axis=1) / present.sum(axis=1)
    figures["expected_calibration_error"] = _calibration_error(labels, probabilities, weights)
    return figures


def _calibration_error(labels, probabilities, weights, bins=15):
    """The expected calibration error of every resample, shape `(B,)`; see `calibration.reliability`."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    member = np.eye(bins)[np.minimum((confidence * bins).astype(int), bins - 1)]
    gaps = (weights * (confidence - right)) @ member
    return np.abs(gaps).sum(axis=1) / weights.sum(axis=1)
