"""Metrics of a classifier, each for many resamples of the images at once.

Every function takes `weights` of shape `(B, N)`: how often each of N images counts in each of B resamples. All ones
give the plain metric; multinomial counts give bootstrap resamples. The tests compare with
scikit-learn's functions; they are not called here because a thousand resamples of each would take minutes.

Shapes: B resamples, N images, K classes.
"""

from typing import Any

import numpy as np


def softmax(logits: Any) -> np.ndarray:
    """Probabilities of logits, shape `(N, K)`, as float64."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """How often each class was predicted for each: rows are true classes, columns predicted ones.

    Returns:
        Float array, shape `(K, K)`, or `(B, K, K)` when weights are given.
    """
    cells = np.asarray(labels) * num_classes + np.asarray(predicted)
    counts = [np.bincount(cells, row, num_classes**2) for row in ([None] if weights is None else weights)]
    matrices = np.reshape(counts, (-1, num_classes, num_classes))
    return matrices[0] if weights is None else matrices


def _ratio(numerator, denominator):
    """Their quotient, NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class, and how many images it has.

    As in scikit-learn with `zero_division=0`, the precision of a class that was never predicted is 0. A class without
    images has no recall: NaN.

    Args:
        confusion: Shape `(..., K, K)`.

    Returns:
        Dict of arrays of shape `(..., K)`: `precision`, `recall`, `f1`, `support`.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    return {
        "precision": np.nan_to_num(_ratio(hits, predicted)),
        "recall": _ratio(hits, support),
        "f1": np.nan_to_num(_ratio(2 * hits, support + predicted)),
        "support": support,
    }


def _mean_over_present(values, support):
    """Mean over the classes that have images, shape `(...,)`."""
    present = support > 0
    return np.where(present, values, 0).sum(-1) / present.sum(-1)


def _weighted(values, support):
    return np.where(support > 0, values * support, 0).sum(-1) / support.sum(-1)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of images whose class was predicted."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-2, -1))


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Mean of the classes' recalls."""
    found = per_class(confusion)
    return _mean_over_present(found["recall"], found["support"])


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    found = per_class(confusion)
    return _mean_over_present(found["f1"], found["support"])


def weighted_f1(confusion: np.ndarray) -> np.ndarray:
    found = per_class(confusion)
    return _weighted(found["f1"], found["support"])


def macro_precision(confusion: np.ndarray) -> np.ndarray:
    found = per_class(confusion)
    return _mean_over_present(found["precision"], found["support"])


def weighted_precision(confusion: np.ndarray) -> np.ndarray:
    found = per_class(confusion)
    return _weighted(found["precision"], found["support"])


# Over one label an image, the weighted recall is the accuracy and the macro recall the balanced accuracy; people look
# for either name.
METRICS = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
    "macro_precision": macro_precision,
    "weighted_precision": weighted_precision,
    "macro_recall": balanced_accuracy,
    "weighted_recall": accuracy,
}


def class_auc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest.

    Args:
        labels: Int array, shape `(N,)`.
        probabilities: Shape `(N, K)`.
        weights: Shape `(B, N)`.

    Returns:
        Shape `(B, K)`; NaN where a resample lacks the class or has nothing else.
    """
    return np.stack([_auc(labels == k, probabilities[:, k], weights) for k in range(probabilities.shape[1])], axis=1)


def _auc(positive, scores, weights):
    """Share of (positive, negative) pairs in the right order; ties count half."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    # Images of equal score form one step of the ROC curve.
    ups = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    downs = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(downs, axis=1) - downs
    pairs = ups.sum(axis=1) * downs.sum(axis=1)
    return _ratio((ups * (below + downs / 2)).sum(axis=1), pairs)
