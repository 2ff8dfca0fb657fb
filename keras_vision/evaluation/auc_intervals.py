"""AUC of each class and its interval by a formula, for so many images and classes that a bootstrap would take hours.

Shapes: N images, K classes.
"""

from typing import NamedTuple

import numpy as np

_COLUMNS = 32  # Copied at once: reading one column of a large array costs as much as reading several.
_NORMAL = 1.96  # The 97.5 % quantile of the normal distribution.


class AucIntervals(NamedTuple):
    """Values with the ends of their 95 % intervals, in this order; NaN where undefined.

    Attributes:
        classes: Area under the ROC curve of each class against the rest, shape `(3, K)`.
        mean: Its mean over the classes, shape `(3,)`.
    """

    classes: np.ndarray
    mean: np.ndarray


def auc_intervals(labels: np.ndarray, probabilities: np.ndarray, members: np.ndarray | None = None) -> AucIntervals:
    """The AUCs with normal intervals: what a bootstrap over images, or groups, converges to as these become many.

    Args:
        labels: Int array, shape `(N,)`.
        probabilities: Shape `(N, K)`.
        members: The number of each image's group, counted from 0; None where every image is independent.

    Reference:
        DeLong et al. 1988, https://doi.org/10.2307/2531595, their placements, here also averaged over classes;
        Obuchowski 1997, https://doi.org/10.2307/2533958, who adds them up within groups before they are squared.
    """
    count, num_classes = probabilities.shape
    classes, influence, present = np.full((3, num_classes), np.nan), np.zeros(count), 0
    for start in range(0, num_classes, _COLUMNS):
        columns = np.ascontiguousarray(probabilities[:, start : start + _COLUMNS].T)
        for k, scores in enumerate(columns, start):
            positive = labels == k
            if 0 < positive.sum() < count:
                auc, own = _influence(positive, scores)
                classes[:, k] = _interval(auc, own, members)
                influence += own
                present += 1
    if not present:
        return AucIntervals(classes, np.full(3, np.nan))
    return AucIntervals(classes, _interval(np.nanmean(classes[0]), influence / present, members))


def _influence(positive, scores):
    """The AUC, and how much it changes with the weight of each image, shape `(N,)`."""
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    # The share of the other side's images in the right order with this one; ties count half.
    placed = np.empty(len(scores))
    placed[positive] = _share_below(below, scores[positive])
    placed[~positive] = 1 - _share_below(above, scores[~positive])
    auc = placed[positive].mean()
    return auc, (placed - auc) / np.where(positive, len(above), len(below))


def _share_below(ordered, scores):
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2 * len(ordered))


def _interval(value, influence, members):
    if members is not None:
        influence = np.bincount(members, influence)
    error = _NORMAL * np.sqrt(np.sum(influence**2))
    return np.array([value, max(0.0, value - error), min(1.0, value + error)])
