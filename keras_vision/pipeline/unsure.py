"""Where a run's model, or one of its files, is unsure: chosen on validation, judged, and put into words."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_vision import data, evaluation
from keras_vision.pipeline.tables import Table, shown
from keras_vision.recipe import Recipe


def judged(
    recipe: Recipe, splits: data.Splits, val_probabilities: np.ndarray, probabilities: np.ndarray
) -> evaluation.Selective | None:
    """What the threshold of a model or file does on the evaluated split; None where the recipe asks for none.

    Of images with several labels each label has a threshold of its own, and none is unsure.

    Args:
        recipe: A `Recipe`.
        splits: The data.
        val_probabilities: Of the validation split, by the model or file itself: its threshold suits its scores only.
        probabilities: Of the evaluated split.
    """
    spec = recipe.evaluation
    if not spec.target_error or splits.several_labels:
        return None
    groups = splits.report.groups if splits.report else {}
    chosen = evaluation.choose_answer_threshold(
        splits.val.labels, val_probabilities, spec.target_error, groups=groups.get("val")
    )
    labels = splits.named()[spec.judge_on].labels
    return evaluation.judge_selective(chosen, labels, probabilities, groups=groups.get(spec.judge_on))


def promise(found: evaluation.Selective) -> str:
    """What a threshold promises, such as `at most 5 % wrong, with 95 % certainty`."""
    return (
        f"at most {100 * found.threshold.target_error:.3g} % wrong, with {100 * evaluation.CERTAINTY:.0f} % certainty"
    )


def sentence(found: evaluation.Selective, split: str) -> str:
    """What a threshold promises and does, or why there is none."""
    value = found.threshold.value
    if value is None:
        return f"No confidence below which it is unsure. {found.threshold.reason}"
    parts = [] if value == 0 else [f"Below a confidence of {value:.3f} it is unsure."]
    answered = "every image" if value == 0 else f"{_percent(found.answered)} of the images"
    parts.append(f"On the {split} split it answers {answered}")
    wrong = "" if math.isnan(found.error.value) else f", and {_percent(found.error)} of these answers are wrong"
    return f"{' '.join(parts)}{wrong}; promised: {promise(found)}."


def _percent(values):
    value, low, high = (100 * part for part in values)
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def comparison(named: Iterable[tuple[str, Any]], split: str) -> Table:
    """Head and rows: for a model and its files the threshold and what it does."""
    head = ("", "unsure below", f"answered, {split} split (95 % interval)", "wrong among these")
    rows = []
    for name, found in named:
        value = found.threshold.value
        rates = ("", "") if value is None else (shown(found.answered), shown(found.error))
        rows.append([name, "none" if value is None else f"{value:.3f}", *rates])
    return head, rows
