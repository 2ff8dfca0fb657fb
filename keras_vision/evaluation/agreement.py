"""Is a converted file still the model it came from? Its figures beside the model's, image by image."""

from dataclasses import dataclass

import numpy as np

from keras_vision.evaluation.judge import Judgement, interval, judge
from keras_vision.evaluation.mcnemar import mcnemar


@dataclass(frozen=True)
class Agreement:
    """One file against the float model, on the same images.

    Attributes:
        judgement: The file's own figures.
        accuracy_drop: The float model's accuracy minus the file's, in percentage points.
        changed: Share of the images whose predicted class is another one.
        classes: `[(lost, won)]`, for each class the images that only the float model, or only the file, gets right.
        mcnemar_p: McNemar's exact p that both are equally good.
    """

    judgement: Judgement
    accuracy_drop: float
    changed: float
    classes: list[tuple[int, int]]
    mcnemar_p: float

    def to_dict(self, class_names):
        """JSON-ready values."""
        return {
            "figures": {name: interval(values) for name, values in self.judgement.figures.items()},
            "accuracy_drop_points": self.accuracy_drop,
            "changed": self.changed,
            "classes": [
                {"name": name, "lost": lost, "won": won}
                for name, (lost, won) in zip(class_names, self.classes, strict=True)
            ],
            "mcnemar_p": self.mcnemar_p,
        }


def agreement(labels, float_probabilities, probabilities, *, resamples=1000, seed=0):
    """Compares a file's probabilities with the float model's.

    Args:
        labels: Int array, shape `(N,)`.
        float_probabilities, probabilities: Shape `(N, K)`.
        resamples, seed: Of the bootstrap intervals.

    Returns:
        An `Agreement`.
    """
    before, after = float_probabilities.argmax(axis=1), probabilities.argmax(axis=1)
    right_before, right_after = before == labels, after == labels
    lost, won = right_before & ~right_after, right_after & ~right_before
    classes = float_probabilities.shape[1]
    per_class = (np.bincount(labels[part], minlength=classes).tolist() for part in (lost, won))
    return Agreement(
        judgement=judge(labels, probabilities, resamples=resamples, seed=seed),
        accuracy_drop=100 * float(right_before.mean() - right_after.mean()),
        changed=float(np.mean(before != after)),
        classes=list(zip(*per_class, strict=True)),
        mcnemar_p=mcnemar(right_before, right_after)[2],
    )
