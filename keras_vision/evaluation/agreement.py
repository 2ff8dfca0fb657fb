"""Compares a converted file with the model it came from, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_vision.evaluation.judge import Judgement, judge
from keras_vision.evaluation.mcnemar import mcnemar
from keras_vision.evaluation.several_labels import LabelsJudgement, judge_labels


@dataclass(frozen=True)
class Agreement:
    """A file compared with the float model, on the same images.

    Attributes:
        judgement: The file's own metrics; a `LabelsJudgement` where images can have several labels.
        accuracy_drop: The float model's accuracy (or exact match) minus the file's, in percentage points.
        changed: Share of the images whose predicted class (or any label) differs.
        classes: `[(lost, won)]`, for each class the images that only the float model, or only the file, classifies
            correctly.
        mcnemar_p: Two-sided p-value of McNemar's exact test; the null hypothesis is that both are equally accurate.
    """

    judgement: Judgement | LabelsJudgement
    accuracy_drop: float
    changed: float
    classes: list[tuple[int, int]]
    mcnemar_p: float

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "metrics": self.judgement.to_dict(),
            "accuracy_drop_points": self.accuracy_drop,
            "changed": self.changed,
            "classes": [
                {"name": name, "lost": lost, "won": won}
                for name, (lost, won) in zip(class_names, self.classes, strict=True)
            ],
            "mcnemar_p": self.mcnemar_p,
        }


def agreement(
    labels: np.ndarray,
    float_probabilities: np.ndarray,
    probabilities: np.ndarray,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    ordered: bool = False,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compares a file's probabilities with the float model's.

    Args:
        labels: Int array, shape `(N,)`.
        float_probabilities, probabilities: Shape `(N, K)`.
        groups: The group of each image, by which the intervals are resampled; None where every image is independent.
        ordered: Whether the classes are grades, labelled in their order.
        resamples, seed: Number and seed of the bootstrap resamples.

    Returns:
        An `Agreement`.
    """
    before, after = float_probabilities.argmax(axis=1), probabilities.argmax(axis=1)
    correct_before, correct_after = before == labels, after == labels
    lost, won = correct_before & ~correct_after, correct_after & ~correct_before
    classes = float_probabilities.shape[1]
    per_class = (np.bincount(labels[part], minlength=classes).tolist() for part in (lost, won))
    return Agreement(
        judgement=judge(labels, probabilities, groups=groups, ordered=ordered, resamples=resamples, seed=seed),
        accuracy_drop=100 * float(correct_before.mean() - correct_after.mean()),
        changed=float(np.mean(before != after)),
        classes=list(zip(*per_class, strict=True)),
        mcnemar_p=mcnemar(correct_before, correct_after)[2],
    )


def labels_agreement(
    labels: np.ndarray,
    float_scores: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compares a file's scores with the float model's, both at the thresholds of the float model.

    An image counts as correct where every label is right. `classes` counts, for each label, the images where only the
    float model's answer is right, or only the file's.
    """
    truth = np.asarray(labels, bool)
    before, after = float_scores >= thresholds, scores >= thresholds
    right_before, right_after = before == truth, after == truth
    lost, won = (right_before & ~right_after).sum(axis=0), (right_after & ~right_before).sum(axis=0)
    correct_before, correct_after = right_before.all(axis=1), right_after.all(axis=1)
    return Agreement(
        judgement=judge_labels(labels, scores, thresholds, groups=groups, resamples=resamples, seed=seed),
        accuracy_drop=100 * float(correct_before.mean() - correct_after.mean()),
        changed=float(np.mean((before != after).any(axis=1))),
        classes=list(zip(lost.tolist(), won.tolist(), strict=True)),
        mcnemar_p=mcnemar(correct_before, correct_after)[2],
    )
