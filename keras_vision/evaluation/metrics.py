"""Classification metrics, vectorized over bootstrap resamples.

`weights` of shape `(B, N)` say how many times each of N images counts in each of B resamples: all ones for the plain
metric, multinomial counts for the bootstrap. scikit-learn's functions, with which the tests compare these, would take
minutes for a thousand resamples.

Shapes: B resamples, N images, K classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


def softmax(logits: Any) -> np.ndarray:
    """Probabilities of logits, shape `(N, K)`, as float64."""
    # One copy, changed in place: of many images and classes each array is hundreds of megabytes.
    powers = np.array(logits, np.float64)
    powers -= powers.max(axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def confusion_matrix(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Counts of predictions: rows are true classes, columns predicted ones.

    Returns:
        Float array, shape `(K, K)`, or `(B, K, K)` with weights.
    """
    cells = np.asarray(labels) * num_classes + np.asarray(predicted)
    counts = [np.bincount(cells, row, num_classes**2) for row in ([None] if weights is None else weights)]
    matrices = np.reshape(counts, (-1, num_classes, num_classes))
    return matrices[0] if weights is None else matrices


def confused_pairs(confusion: np.ndarray) -> np.ndarray:
    """Pairs of true and predicted class, those with the most images first.

    Args:
        confusion: Int array, shape `(K, K)`; rows are true classes.

    Returns:
        Int array, shape `(P, 2)`, of the P pairs of different classes that have images.
    """
    wrong = np.array(confusion)
    np.fill_diagonal(wrong, 0)
    pairs = np.argwhere(wrong)
    return pairs[np.argsort(-wrong[tuple(pairs.T)], kind="stable")]


@dataclass(frozen=True)
class ClassCounts:
    """What the metrics need of a confusion matrix; a thousand classes have a thousand of each, not a million.

    Attributes:
        hits: Images of each class that are classified correctly, shape `(..., K)`.
        support: Images of each class.
        predicted: Images that are classified as each class.
    """

    hits: np.ndarray
    support: np.ndarray
    predicted: np.ndarray


def class_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: np.ndarray) -> ClassCounts:
    """The counts of each resample, shape `(B, K)`.

    Args:
        labels, predicted: Int arrays, shape `(N,)`.
        num_classes: K.
        weights: Shape `(B, N)`.
    """
    correct = labels == predicted

    def counted(classes, parts):
        return np.stack([np.bincount(classes, part, num_classes) for part in parts])

    return ClassCounts(
        hits=counted(labels[correct], weights[:, correct]),
        support=counted(labels, weights),
        predicted=counted(predicted, weights),
    )


def _counts(confusion: np.ndarray | ClassCounts) -> ClassCounts:
    if isinstance(confusion, ClassCounts):
        return confusion
    return ClassCounts(np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(-1), confusion.sum(-2))


def ratio(numerator: np.ndarray, denominator: np.ndarray, *, empty: float = np.nan) -> np.ndarray:
    """The quotient, and `empty` where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, empty)


def per_class(confusion: np.ndarray | ClassCounts) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and number of images of each class.

    As in scikit-learn with `zero_division=0`, the precision of a class that is never predicted is 0. A class without
    images has the recall NaN.

    Args:
        confusion: Shape `(..., K, K)`, or its counts. The metrics below take the same.

    Returns:
        Dict of arrays of shape `(..., K)`: `precision`, `recall`, `f1`, `support`.
    """
    counts = _counts(confusion)
    return {
        "precision": ratio(counts.hits, counts.predicted, empty=0.0),
        "recall": ratio(counts.hits, counts.support),
        "f1": ratio(2 * counts.hits, counts.support + counts.predicted, empty=0.0),
        "support": counts.support,
    }


def _mean_over_present(values, support):
    """Mean over the classes that have images, shape `(...,)`."""
    present = support > 0
    return np.where(present, values, 0).sum(-1) / present.sum(-1)


def _weighted(values, support):
    return np.where(support > 0, values * support, 0).sum(-1) / support.sum(-1)


def accuracy(confusion: np.ndarray | ClassCounts) -> np.ndarray:
    """Share of images whose predicted class is the true one."""
    counts = _counts(confusion)
    return counts.hits.sum(-1) / counts.support.sum(-1)


def balanced_accuracy(confusion: np.ndarray | ClassCounts) -> np.ndarray:
    """Mean recall over the classes that have images."""
    classes = per_class(confusion)
    return _mean_over_present(classes["recall"], classes["support"])


def macro_f1(confusion: np.ndarray | ClassCounts) -> np.ndarray:
    """Mean F1 over the classes that have images."""
    classes = per_class(confusion)
    return _mean_over_present(classes["f1"], classes["support"])


def weighted_f1(confusion: np.ndarray | ClassCounts) -> np.ndarray:
    """Mean F1, each class weighted by its number of images."""
    classes = per_class(confusion)
    return _weighted(classes["f1"], classes["support"])


def macro_precision(confusion: np.ndarray | ClassCounts) -> np.ndarray:
    """Mean precision over the classes that have images."""
    classes = per_class(confusion)
    return _mean_over_present(classes["precision"], classes["support"])


def weighted_precision(confusion: np.ndarray | ClassCounts) -> np.ndarray:
    """Mean precision, each class weighted by its number of images."""
    classes = per_class(confusion)
    return _weighted(classes["precision"], classes["support"])


# With one label per image, the weighted recall is the accuracy and the macro recall the balanced accuracy. Both names
# are in use.
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


def quadratic_kappa(labels: np.ndarray, predicted: np.ndarray, num_classes: int, weights: np.ndarray) -> np.ndarray:
    """Cohen's kappa with quadratic weights, for classes that are grades: 1 is perfect, 0 is chance.

    It is 1 - d / e, where d is the mean squared difference between true and predicted grade, and e what it would be if
    predictions had the same frequencies but nothing to do with the images.

    Args:
        labels, predicted: Int arrays, shape `(N,)`, numbered in the order of the grades.
        num_classes: K.
        weights: Shape `(B, N)`.

    Returns:
        Shape `(B,)`; NaN where all labels and predictions are one class.

    Reference:
        Cohen 1968, https://doi.org/10.1037/h0026256.
    """
    counts = class_counts(labels, predicted, num_classes, weights)
    grades, total = np.arange(num_classes), counts.support.sum(-1)
    (true, true_squared), (guess, guess_squared) = (
        (part @ grades / total, part @ grades**2 / total) for part in (counts.support, counts.predicted)
    )
    observed = weights @ (labels - predicted) ** 2 / total
    return 1 - ratio(observed, true_squared + guess_squared - 2 * true * guess)


def class_auc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest.

    Args:
        labels: Int array, shape `(N,)`.
        probabilities: Shape `(N, K)`.
        weights: Shape `(B, N)`.

    Returns:
        Shape `(B, K)`; NaN where a resample has no image of the class, or only images of it.
    """
    return np.stack([auc(labels == k, probabilities[:, k], weights) for k in range(probabilities.shape[1])], axis=1)


def _steps(positive, scores, weights):
    """Positive and negative images by rising score, each shape `(B, S)`; those of equal score are one step."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    ups = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    downs = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    return ups, downs


def average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Precision at each threshold, weighted by the recall that it adds; NaN where a resample has no positive image.

    Args:
        positive: Bool array, shape `(N,)`.
        scores: Shape `(N,)`.
        weights: Shape `(B, N)`.

    Returns:
        Shape `(B,)`.
    """
    ups, downs = _steps(positive, scores, weights)
    hits, false = (np.cumsum(part[:, ::-1], axis=1)[:, ::-1] for part in (ups, downs))
    return ratio((ups * ratio(hits, hits + false, empty=0.0)).sum(axis=1), ups.sum(axis=1))


def auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of (positive, negative) pairs in the right order; ties count half.

    Arguments and result are those of `average_precision`.
    """
    ups, downs = _steps(positive, scores, weights)
    below = np.cumsum(downs, axis=1) - downs
    pairs = ups.sum(axis=1) * downs.sum(axis=1)
    return ratio((ups * (below + downs / 2)).sum(axis=1), pairs)
