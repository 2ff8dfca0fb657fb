"""The report of a run whose images can have several labels, or none: every label is a yes or no of its own."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vision.evaluation import Agreement, labels_agreement
from keras_vision.pipeline import plots
from keras_vision.pipeline.report import MOST_ABSENT, NO_LABEL, Report
from keras_vision.pipeline.tables import counted, shown

MOST_NAMED = 3  # Labels of an image that a caption names.
RARE_F1 = 0.1  # Macro F1 below micro F1 by which rare labels are worse.


class LabelsReport(Report):
    """A `Report` with `labels` and `probabilities` of shape `(N, K)` and a `LabelsJudgement`."""

    @property
    def thresholds(self) -> dict[str, float]:
        """The score from which on each label is a yes."""
        return {name: row.threshold for name, row in self.named_classes()}

    @property
    def majority(self) -> tuple[str, float]:
        """The most frequent set of labels of the evaluated split, and its share."""
        sets, counts = np.unique(self.labels, axis=0, return_counts=True)
        place = int(counts.argmax())
        return self.named(np.flatnonzero(sets[place])), float(counts[place] / counts.sum())

    def absence(self, judgement: Any, split: str) -> str | None:
        """Which labels no image of a split has, in a sentence; None if it has all."""
        absent = [name for name, row in zip(self.class_names, judgement.classes, strict=True) if not row.support]
        if not absent:
            return None
        named = ", ".join(absent[:MOST_ABSENT])
        more = f" and {len(absent) - MOST_ABSENT:,} more" if len(absent) > MOST_ABSENT else ""
        return (
            f"{len(absent):,} of {len(self.class_names):,} labels are on no image of the {split} split "
            f"({named}{more}): the means there are over the other {len(self.class_names) - len(absent):,}."
        )

    def _weakest(self):
        """The label that is told worst from the others."""
        # The AUC is not defined for a label that every image of the split has.
        rows = enumerate(self.judgement.classes)
        present = [(row.auc.value, label) for label, row in rows if np.isfinite(row.auc.value)]
        if not present:
            return None
        _, label = min(present)
        row = self.judgement.classes[label]
        return (
            f"Weakest label: {self.class_names[label]}, AUC {shown(row.auc)}; at its threshold {row.recall.value:.0%} "
            f"of {counted(row.support, 'image')} are found, and {row.precision.value:.0%} of what is found is right."
        )

    def _misses_rare_classes(self):
        micro, macro = (self.judgement.metrics[name].value for name in ("micro_f1", "macro_f1"))
        return micro - macro > RARE_F1

    def agreement(self, probabilities: np.ndarray, *, resamples: int, seed: int) -> Agreement:
        """How a file's scores of the evaluated images compare with the model's."""
        how = {"groups": self.groups, "resamples": resamples, "seed": seed}
        return labels_agreement(self.labels, self.probabilities, probabilities, self.judgement.thresholds, **how)

    def decisions(self, row: int) -> tuple[list[int], list[int]]:
        """True and predicted labels of an image of the evaluated split."""
        # Of this row alone: predictions.csv asks for every image.
        decided = self.probabilities[row] >= self.judgement.thresholds
        return np.flatnonzero(self.labels[row]).tolist(), np.flatnonzero(decided).tolist()

    @property
    def wrong(self) -> np.ndarray:
        """Rows of the evaluated split with a wrong label."""
        return np.flatnonzero(~self.judgement.right)

    @property
    def confidence(self) -> np.ndarray:
        """How far the score of the worst of an image's wrong labels is from the truth, shape `(N,)`; 0 without any."""
        return self._errors(slice(None)).max(axis=1)

    def _errors(self, rows):
        """How far the scores of wrong labels are from the truth; 0 for right ones."""
        scores, truth = self.probabilities[rows], self.labels[rows]
        return np.where((scores >= self.judgement.thresholds) != truth, np.abs(scores - truth), 0)

    def worst_labels(self, rows: np.ndarray) -> np.ndarray:
        """The label of each image that is most wrong, shape `(len(rows),)`."""
        return self._errors(rows).argmax(axis=1)

    def _class_details(self):
        return {"thresholds": self.thresholds}

    def _class_plots(self):
        return {"labels": plots.label_metrics(self.judgement.classes, self.class_names)}

    def _caption(self, row, names):
        true, predicted = self.decisions(row)
        errors = self._errors(row)
        lines = [] if self.names is None else [plots.shorten(os.path.basename(str(self.names[row])), 24)]
        for wrong in (set(true) - set(predicted), set(predicted) - set(true)):
            if wrong:
                label = max(wrong, key=lambda label: errors[label])
                more = f" +{len(wrong) - 1}" if len(wrong) > 1 else ""
                lines.append(self._answer(row, label, plots.shorten(names[label], 16)) + more)
        return "\n".join(lines)

    def _answer(self, row, label, name):
        """What the model says of a label, such as `missed: cat 0.12`."""
        is_there, is_found = (label in labels for labels in self.decisions(row))
        word = "" if is_there == is_found else "missed: " if is_there else "wrong: "
        return f"{word}{name} {self.probabilities[row, label]:.2f}"

    def heatmap_caption(self, row: int, label: int, names: Sequence[str]) -> str:
        """Above a heatmap of a label: what the image shows, and the label's score."""
        true = [names[other] for other in self.decisions(row)[0]][:MOST_NAMED]
        return f"true: {', '.join(true) or NO_LABEL}\n{self._answer(row, label, names[label])}"
