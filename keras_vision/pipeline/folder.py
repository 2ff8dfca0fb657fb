"""A run's folder: the only file that knows the names of a run's files, for writing and for reading.

Standard library only, so that the command line can look into a folder before Keras is imported.
"""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_vision.files import outside
from keras_vision.recipe import InputError, first_line

MODEL = "model.keras"
LABELS = "labels.txt"
THRESHOLDS = "thresholds.json"
UNSURE = "unsure.json"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
SPLITS = "splits.csv"
MISTAKES = "mistakes"
RECIPE = "recipe.json"
ENVIRONMENT = "environment.json"
DATA_REPORT = "data_report.json"
PAGE = "report.html"
CARD = "README.md"  # Where model hubs look for it.
PLOTS = "plots"
TFLITE = "tflite"
EXPORTS = "exports"
TENSORBOARD = "tensorboard"
# The file written last: its presence marks a finished training, or a finished learning-rate range test.
REPORT = "report.json"
RANGE_TEST = "learning_rates.json"
RANGE_TEST_CURVE = "learning_rates.csv"
RANGE_TEST_PLOT = "learning_rates.png"
# What shows no image of the data and names no file of it, besides what is in `TFLITE` and `EXPORTS`.
OPEN_PLOTS = ("class_balance", "confusion_matrix", "labels", "learning_curves", "profile", "reliability", "roc_curve")
OPEN_FILES = {
    *(CARD, MODEL, LABELS, THRESHOLDS, UNSURE, HISTORY, RECIPE, ENVIRONMENT),
    *(f"{PLOTS}/{name}.png" for name in OPEN_PLOTS),
}


def check(out: str | os.PathLike, *, overwrite: bool = False, record: str = REPORT) -> None:
    """Refuses a folder that cannot be a run's before hours of work, not after.

    Args:
        out: Folder of the run to be.
        overwrite: Whether a finished run may be replaced.
        record: File that a finished run of the same kind has; one of another kind is never replaced.

    Raises:
        InputError: If `out` holds a finished run and `overwrite` is off, or anything that is not a run of this kind.
    """
    out = Path(out)
    try:
        if not out.exists() and not out.is_symlink():
            return
        if not out.is_dir():
            raise InputError(f"--out needs a folder, but {out} is a file. Choose another with --out DIR.")
        if not any(out.iterdir()):
            return
        finished = (out / record).is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"--out {str(out)!r} cannot be used: {error}. Choose another with --out DIR.") from error
    if not finished:
        raise InputError(
            f"{out} holds files but no finished run of this kind ({record} is missing), so it is left alone. "
            "Choose another folder with --out DIR."
        )
    if not overwrite:
        raise InputError(f"{out} holds a finished run. Choose another folder with --out DIR, or pass --overwrite.")


def model_file(run: str | os.PathLike) -> Path:
    """The model of a finished run.

    Args:
        run: The run's folder, or a .keras file itself.

    Raises:
        InputError: If there is none.
    """
    run = Path(os.path.expanduser(run))
    file = run / MODEL if run.is_dir() else run
    if not file.is_file():
        raise InputError(f"--init-from takes a run's folder with a {MODEL}, or a .keras file. Received: {run}.")
    return file


def to_publish(run: str | os.PathLike, *, images: bool = False) -> tuple[list[str], list[str]]:
    """The files of a finished run that can be given to others, and those that show or name images of its data.

    Args:
        run: The run's folder.
        images: Whether those, too, are given.

    Returns:
        Two lists of places in the folder: what to publish, and what not.

    Raises:
        InputError: If there is no finished run with a model.
    """
    run = Path(run)
    for needed in (REPORT, MODEL, CARD):
        if not (run / needed).is_file():
            raise InputError(f"{run} is not a finished run with a model card: it has no {needed}.")
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.is_symlink()]
    names = [path.relative_to(run).as_posix() for path in files]
    open_folders = (f"{TFLITE}/", f"{EXPORTS}/")
    chosen = [name for name in names if images or name in OPEN_FILES or name.startswith(open_folders)]
    return chosen, [name for name in names if name not in chosen]


def tflite_names(scheme: str) -> tuple[str, str]:
    """Names of a scheme's .tflite file and its card, relative to the run's folder."""
    return f"{TFLITE}/{scheme}.tflite", f"{TFLITE}/{scheme}.json"


def plot_file(folder: Path, name: str) -> Path:
    """Where a plot of the report is written."""
    return folder / PLOTS / f"{name}.png"


def write_json(path: Path, content: Any) -> None:
    """Writes an object as indented JSON; a number that is not finite is an error."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", "utf-8")


def write_labels(folder: Path, class_names: tuple[str, ...]) -> None:
    """Writes the class names, a line each, in the order of the model's outputs."""
    (folder / LABELS).write_text(_label_lines(class_names), "utf-8")


def has_other_labels(folder: Path, class_names: tuple[str, ...]) -> bool:
    """Whether a folder has a file of class names that `write_labels` would change."""
    file = folder / LABELS
    return file.exists() and outside.read_text(file, "replace") != _label_lines(class_names)


def _label_lines(class_names):
    return "\n".join(class_names) + "\n"


def labels_beside(model: Path) -> Path | None:
    """The class names beside a model's file; None where there are none."""
    file = model.parent / LABELS
    return file if file.is_file() else None


def data_of(path: str | os.PathLike) -> dict[str, Any]:
    """The record of the training data next to a model; empty where there is none.

    Args:
        path: A .tflite file, perhaps with its card; a run's folder; or the model in one.

    Raises:
        InputError: If a file that says it is damaged.
    """
    data = _beside(path, ENVIRONMENT).get("data")
    return data if isinstance(data, dict) else {}


def recipe_of(path: str | os.PathLike) -> dict[str, Any]:
    """The recipe of the run that a model is in; empty where there is none.

    Args:
        path: A run's folder, or the model in one; a .tflite file has none.

    Raises:
        InputError: If the file is damaged.
    """
    return {} if Path(path).suffix == ".tflite" else _beside(path, RECIPE)


def _beside(path, name):
    """The card of a .tflite file, or the JSON object of that name beside a model; empty where there is none."""
    path = Path(path)
    if path.suffix == ".tflite":
        return read_card(path) or {}
    file = (path if path.is_dir() else path.parent) / name
    found = outside.read_json(file) if file.is_file() else None
    return found if isinstance(found, dict) else {}


def _part_beside(path, name, key):
    """What a .tflite file's card says under a key, or the JSON object of that name beside another model."""
    found = _beside(path, name)
    if Path(path).suffix == ".tflite":
        found = found.get(key)
    return found if isinstance(found, dict) else {}


def _score(value):
    """A score of a file as a float; None where it is none."""
    # A number of many digits is no float.
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


def read_card(path: str | os.PathLike) -> dict[str, Any] | None:
    """The card next to a .tflite file; None where there is none.

    Raises:
        InputError: If it cannot be read.
    """
    beside = Path(path).with_suffix(".json")
    if not beside.is_file() or beside == Path(path):
        return None
    card = outside.read_json(beside)
    return card if isinstance(card, dict) and "sha256" in card else None


def thresholds_of(path: str | os.PathLike) -> dict[str, float]:
    """The score from which on each label is a yes, next to a model whose images can have several labels; else empty.

    Args:
        path: A .tflite file, perhaps with its card; a run's folder; or the model in one.

    Raises:
        InputError: If a file that says it is damaged.
    """
    found = _part_beside(path, THRESHOLDS, "thresholds")
    scores = {name: _score(value) for name, value in found.items()}
    return {name: value for name, value in scores.items() if value is not None}


def unsure_below(path: str | os.PathLike) -> float | None:
    """The confidence below which a model is unsure, next to it; None where it answers every image.

    Args:
        path: A .tflite file, perhaps with its card; a run's folder; or the model in one.

    Raises:
        InputError: If a file that says it is damaged.
    """
    return _score(_part_beside(path, UNSURE, "unsure").get("threshold"))


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, as its folder describes it.

    Attributes:
        name: Name of the folder.
        report: `report.json`.
        epochs: `history.csv`, one dict an epoch.
        answers: `{SHA-256 of an image's pixels: whether it was classified correctly}` from `predictions.csv`.
    """

    name: str
    report: dict[str, Any]
    epochs: list[dict[str, float]]
    answers: dict[str, bool]


def read_run(folder: str | os.PathLike) -> FinishedRun:
    """Reads a finished run.

    Raises:
        InputError: If the folder holds none, or one whose files are damaged.
    """
    folder = Path(folder)
    if not (folder / REPORT).is_file():
        raise InputError(f"{folder} is not a finished run: it has no {REPORT}.")
    try:
        report = outside.read_json(folder / REPORT)
        epochs = [{name: float(value) for name, value in row.items()} for row in _rows(folder / HISTORY)]
        answers = {row["image_sha256"]: row["label"] == row["predicted"] for row in predictions(folder)}
        return FinishedRun(folder.resolve().name, report, epochs, answers)
    except InputError as error:
        raise InputError(f"{folder} is not a complete run: {error}") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, csv.Error) as error:
        raise damaged(folder, error) from error


def predictions(folder: str | os.PathLike) -> Iterator[dict[str, str]]:
    """A run's answers image by image.

    Raises:
        InputError: If they cannot be read.
    """
    return _rows(Path(folder) / PREDICTIONS)


def _rows(file: Path) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(outside.read_text(file), newline=""))


def damaged(folder: str | os.PathLike, error: Exception) -> InputError:
    """The error for a run whose files are not what a run writes."""
    return InputError(f"{folder} is not a complete run: {type(error).__name__}: {first_line(error)}.")
