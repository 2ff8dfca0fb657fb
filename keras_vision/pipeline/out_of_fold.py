"""Cross-validation: the predictions of the held-out folds joined, each image by the one model that did not see it."""

import csv
import dataclasses
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from keras_vision import data, evaluation
from keras_vision.data import folds
from keras_vision.evaluation import Interval, mean_interval
from keras_vision.files import outside
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import plots
from keras_vision.pipeline.seeds import SHOWN
from keras_vision.pipeline.tables import Row, Table, counted, from_json, intervals, shown, words
from keras_vision.recipe import InputError, Recipe

MOST_CLASSES = 50  # Rows of the page's table.
ROUNDING = 1e-9  # Of a share of images that is computed again.


def check(recipes: Collection[Recipe], count: int) -> None:
    """Refuses a number of folds that the data of a recipe has too few images or groups for.

    Raises:
        InputError: If there are too few.
    """
    for spec, seed in {(dataclasses.replace(recipe.data, fold=None), recipe.seed) for recipe in recipes}:
        plain = dataclasses.replace(spec, audit_leaks=False, drop_leaks=False)
        splits = data.load_splits(plain, seed)
        folds.check(splits, count, share=spec.val_share, seed=seed, where=spec.data)


@dataclass(frozen=True)
class OutOfFold:
    """One prediction for each image that cross-validation divides.

    Attributes:
        file: Its table, relative to the sweep's folder.
        class_names: Names of the classes.
        head: Names of the table's columns.
        rows: The table's rows, in the order of the data.
        judgement: The metrics over all images; the intervals are over images, or over groups.
        by_fold: Mean of each metric over the folds, with its t interval.
        absent: `{fold: names of the classes that it has no image of}`.
        unused: Images of the data's own test split, which no run used.
    """

    file: str
    class_names: tuple[str, ...]
    head: list[str]
    rows: list[list[str]]
    judgement: Any
    by_fold: dict[str, Interval]
    absent: dict[int, list[str]]
    unused: int = 0

    def to_csv(self) -> str:
        """The table as text."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.head, *self.rows])
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "predictions": self.file,
            "images": self.judgement.images,
            "groups": self.judgement.groups,
            "metrics": self.judgement.to_dict(),
            "over_folds": {name: values.to_dict() for name, values in self.by_fold.items()},
            "classes": [
                {"name": name, **row.to_dict()}
                for name, row in zip(self.class_names, self.judgement.classes, strict=True)
            ],
        }

    def cautions(self) -> Iterator[str]:
        """What a reader may not expect, a sentence each."""
        if self.absent:
            number, names = next(iter(self.absent.items()))
            yield (
                f"Some folds ({', '.join(map(str, self.absent))}) have no image of a class, such as fold {number} of "
                f"{names[0]}: means over classes there are over the others. The metrics over all images have all."
            )

    def plots(self) -> dict[str, Figure]:
        """Pictures of the errors and of the calibration, by name."""
        found = self.judgement
        if found.main == "accuracy":
            errors = {"confusion_matrix": plots.confusion(found.confusion, self.class_names)}
        else:
            errors = {"labels": plots.label_metrics(found.classes, self.class_names)}
        return {**errors, "reliability": plots.reliability_curve(found.calibration)}

    def class_table(self) -> Table:
        """Head and rows: a row per class, the lowest F1 first."""
        pairs = sorted(zip(self.class_names, self.judgement.classes, strict=True), key=lambda pair: pair[1].f1.value)
        rows: list[Row] = [
            [name, row.support, *map(shown, (row.precision, row.recall, row.f1, row.auc))]
            for name, row in pairs[:MOST_CLASSES]
        ]
        return ["class", "images", "precision", "recall", "F1", "AUC"], rows


def join(file: str, runs: Mapping[int, Path]) -> OutOfFold:
    """The predictions of all folds of a setting.

    Args:
        file: Name of the table to be, relative to the sweep's folder.
        runs: Folders of the finished runs by the number of their fold.

    Raises:
        InputError: If an image is predicted twice or not at all, a group is in two folds, or the runs are not the folds
            of one division of the same data.
    """
    reports = {number: outside.read_json(folder / run_folder.REPORT) for number, folder in runs.items()}
    _check_runs(reports, runs)
    tables = {number: list(run_folder.predictions(folder)) for number, folder in runs.items()}
    rows = [{**row, "fold": str(number)} for number, table in tables.items() for row in table]
    try:
        rows.sort(key=lambda row: int(row["row"]))
        _check_rows(rows, next(iter(reports.values()))["fold"]["images"], file)
        judgement = _judge(rows, reports)
        _check_metrics(tables, reports, runs)
    except InputError:
        raise
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise run_folder.damaged(next(iter(runs.values())).parent, error) from error
    first = next(iter(reports.values()))
    head = ["row", "fold", *(name for name in rows[0] if name not in ("row", "fold"))]
    metrics = {name: [from_json(one["metrics"][name]).value for one in reports.values()] for name in first["metrics"]}
    return OutOfFold(
        file,
        tuple(first["class_names"]),
        head,
        [[row[name] for name in head] for row in rows],
        judgement,
        {name: mean_interval(values) for name, values in metrics.items()},
        {number: one["absent_classes"] for number, one in reports.items() if one["absent_classes"]},
        first["fold"]["unused"],
    )


def _check_runs(reports, runs):
    first = next(iter(reports.values()))
    for number, report in reports.items():
        fold, split = report.get("fold"), report.get("split")
        if not isinstance(fold, dict) or split != "test" or (fold["number"], fold["count"]) != (number, len(reports)):
            raise InputError(f"{runs[number]} was not judged on fold {number} of {len(reports)}.")
        for what, same in (
            ("images", fold["images"] == first["fold"]["images"]),
            ("classes", report["class_names"] == first["class_names"]),
            ("files", report["data"]["files"] == first["data"]["files"]),
        ):
            if not same:
                raise InputError(
                    f"{runs[number]} was trained on other {what} than the first fold, so the folds cannot be joined. "
                    "Delete the runs of the data as it was before."
                )


def _check_rows(rows, images, file):
    """That each image is predicted once, and no group by two models that saw different parts of it."""
    numbers = np.array([int(row["row"]) for row in rows])
    twice = np.flatnonzero(np.diff(numbers) == 0)
    if len(twice):
        pair = [rows[twice[0]], rows[twice[0] + 1]]
        raise InputError(
            f"{file}: image {_called(pair[0])} is predicted twice, in fold {pair[0]['fold']} and in fold "
            f"{pair[1]['fold']}, so the folds cannot be joined."
        )
    if not np.array_equal(numbers, np.arange(images)):
        missing = np.setdiff1d(np.arange(images), numbers)
        raise InputError(
            f"{file}: {counted(len(missing), 'image')} of {images:,} have no prediction"
            + (f", the first is number {missing[0]}" if len(missing) else "")
            + ", so the folds cannot be joined."
        )
    for what in ("group", "file"):
        fold_of: dict[str, str] = {}
        for row in rows:
            if row.get(what) is not None and fold_of.setdefault(row[what], row["fold"]) != row["fold"]:
                raise InputError(
                    f"{file}: {what} {row[what]!r} is in fold {fold_of[row[what]]} and in fold {row['fold']}, so a "
                    "model was judged on what it was trained on."
                )


def _called(row):
    return row.get("file") or f"number {row['row']}"


def _arrays(rows, report):
    """Labels and probabilities; labels are 0 and 1, shape `(N, K)`, where images can have several."""
    count = len(report["class_names"])
    probabilities = np.array([[float(row[f"p_{label}"]) for label in range(count)] for row in rows])
    if "thresholds" not in report:
        return np.array([int(row["label"]) for row in rows]), probabilities
    labels = np.zeros((len(rows), count), np.int64)
    for number, row in enumerate(rows):
        labels[number, [int(label) for label in row["label"].split("|") if label]] = 1
    return labels, probabilities


def _thresholds(report):
    return np.array([report["thresholds"][name] for name in report["class_names"]])


def _judge(rows, reports):
    first = next(iter(reports.values()))
    labels, probabilities = _arrays(rows, first)
    how = {
        "groups": np.array([row["group"] for row in rows], object) if "group" in rows[0] else None,
        "resamples": first["recipe"]["evaluation"]["bootstrap"],
        "seed": first["recipe"]["seed"],
    }
    if labels.ndim == 1:
        return evaluation.judge(labels, probabilities, ordered="quadratic_kappa" in first["metrics"], **how)
    thresholds = {str(number): _thresholds(report) for number, report in reports.items()}
    return evaluation.judge_labels(labels, probabilities, np.stack([thresholds[row["fold"]] for row in rows]), **how)


def _check_metrics(tables, reports, runs):
    """That the predictions of each fold give the metric that its run reports."""
    for number, report in reports.items():
        labels, probabilities = _arrays(tables[number], report)
        if labels.ndim == 1:
            right = probabilities.argmax(axis=1) == labels
        else:
            right = ((probabilities >= _thresholds(report)) == labels).all(axis=1)
        if abs(right.mean() - report["metrics"][report["main_metric"]]["value"]) > ROUNDING:
            raise InputError(f"The predictions of {runs[number]} do not give the metrics of its report.")


def table(joined: Mapping[str, OutOfFold]) -> Table:
    """Head and rows: two rows per setting, its metrics over all images and their means over the folds."""
    known = {name for one in joined.values() for name in one.by_fold}
    names = [name for name in SHOWN if name in known]
    rows = []
    for setting, one in joined.items():
        rows.append([setting, "all images", *(shown(one.judgement.metrics[name]) for name in names)])
        rows.append(["", "mean over folds", *(shown(one.by_fold[name]) for name in names)])
    return ["setting", "", *map(words, names)], rows


def note(joined: Mapping[str, OutOfFold]) -> str:
    """How the predictions were made and how to read the table."""
    first = next(iter(joined.values()))
    one = first.judgement
    own = f" The data's own test split, {counted(first.unused, 'image')}, was not read." if first.unused else ""
    chosen = (
        " Nothing was chosen by these metrics; a setting that is chosen by them looks a little better than it is."
        if len(joined) > 1
        else ""
    )
    return (
        f"Each of {counted(one.images, 'image')} is predicted once, by the model that held out its fold: neither the "
        "training nor the choice of an epoch, a threshold or a temperature used that fold. Over all images: "
        f"{intervals(one)}, which cover the choice of the images. Mean over folds: 95 % t intervals, which also cover "
        "how trainings vary; the folds share training images, so these are approximate. AUC over all images compares "
        f"scores of different models.{own}{chosen}"
    )
