"""Two classes, one of which is looked for: what a threshold on its probability finds, and what it takes for it."""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.metrics import roc_curve


@dataclass(frozen=True)
class OperatingPoint:
    """A two-class network as a detector of one of them.

    Attributes:
        positive: Label of the class that is looked for, 0 or 1.
        threshold: Least probability of that class that counts as found, chosen on validation.
        chosen: `sensitivity` and `specificity` at that threshold as `(value, low, high)`, 95 % Wilson intervals.
        half: The same at a probability of one half, where the network's own answer changes.
        curve: The judged split's ROC curve, shape `(2, M)`: false positive rates, true positive rates.
    """

    positive: int
    threshold: float
    chosen: dict[str, tuple[float, ...]]
    half: dict[str, tuple[float, ...]]
    curve: np.ndarray


def operating_point(labels, probabilities, val_labels, val_probabilities, positive):
    """Chooses a threshold on the validation split and judges it on another.

    Of all thresholds it takes the one with the largest sum of sensitivity and specificity on validation, in the middle
    of the gap between two images' probabilities, so that it depends on neither alone.

    Args:
        labels: Int array, shape `(N,)`, of 0 and 1.
        probabilities: Float array, shape `(N, 2)`.
        val_labels: Those of the validation split, both classes among them.
        val_probabilities: Likewise.
        positive: Label of the class that is looked for.

    Returns:
        An `OperatingPoint`, or None where one of the splits lacks a class.

    Reference:
        Youden 1950, https://doi.org/10.1002/1097-0142(1950)3:1<32::AID-CNCR2820030106>3.0.CO;2-3.
    """
    if min(len(np.unique(labels)), len(np.unique(val_labels))) < 2:
        return None
    threshold = _youden(val_labels == positive, val_probabilities[:, positive])
    is_positive, scores = labels == positive, probabilities[:, positive]
    false, true, _ = roc_curve(is_positive, scores)
    return OperatingPoint(
        positive=positive,
        threshold=threshold,
        chosen=_rates(is_positive, scores >= threshold),
        half=_rates(is_positive, probabilities.argmax(axis=1) == positive),
        curve=np.stack([false, true]),
    )


def _youden(is_positive, scores):
    false, true, thresholds = roc_curve(is_positive, scores, drop_intermediate=False)
    best = int(np.argmax(true - false))
    below = scores[scores < thresholds[best]]
    # The first threshold of a ROC curve is infinite: nothing is found.
    upper = min(float(thresholds[best]), 1.0)
    return (upper + float(below.max())) / 2 if len(below) else upper


def _rates(is_positive, found):
    return {"sensitivity": _share(found[is_positive]), "specificity": _share(~found[~is_positive])}


def _share(hits):
    low, high = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    return float(hits.mean()), float(low), float(high)
