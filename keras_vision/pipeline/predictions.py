"""A run's answers image by image: `predictions.csv`, and links to the files that were misclassified."""

import csv
import hashlib
import os
import re
from pathlib import Path
from typing import TextIO

from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline.report import Report

# Classes whose probabilities are all in predictions.csv: a thousand, of 100,000 images, would be a file of 900 MB.
MOST_PROBABILITIES = 100
NAME_BYTES = 100


def write(report: Report, file: TextIO) -> None:
    """Writes each evaluated image by its file, if it has one, and by the hash of its pixels, as CSV text.

    Two runs can be compared image by image although their files differ in order. Of more than 100 classes only the
    probabilities of the true and of the predicted one are written. Those of a fold, which are joined with the other
    folds', have all, every digit, and the image's number and group.
    """
    writer = csv.writer(file, lineterminator="\n")
    names, classes = report.names, report.probabilities.shape[1]
    rows = report.fold.rows if report.fold is not None and report.split == "test" else None
    groups = None if rows is None else report.groups
    every = classes <= MOST_PROBABILITIES or report.labels.ndim == 2 or rows is not None
    digits = 6 if rows is None else 9  # Of float32.
    placed = [*["row"] * (rows is not None), *["group"] * (groups is not None)]
    columns = [f"p_{label}" for label in range(classes)] if every else ["p_label", "p_predicted"]
    writer.writerow([*placed, *["file"] * (names is not None), "image_sha256", "label", "predicted", *columns])
    for number, (image, row) in enumerate(zip(report.images, report.probabilities, strict=True)):
        digest, answers = hashlib.sha256(image.tobytes()).hexdigest(), report.decisions(number)
        shown = [part[number] for part in (rows, groups) if part is not None]
        shown += [] if names is None else [Path(names[number]).as_posix()]
        values = row if every else row[[*answers[0], *answers[1]]]
        written = ("|".join(map(str, labels)) for labels in answers)  # Several, or none, where images can have them.
        writer.writerow([*shown, digest, *written, *(f"{value:.{digits}g}" for value in values)])


def link_mistakes(folder: Path, report: Report) -> str:
    """Writes links to the misclassified files: `mistakes/TRUE as PREDICTED/93 NAME`, 93 % being the confidence.

    Args:
        folder: The run's folder.
        report: Its report.

    Returns:
        A sentence on what was written.
    """
    confidence = report.confidence
    if report.names is None or report.data_report is None:
        return "The images have no files, so there are no links to the misclassified ones."
    place = folder / run_folder.MISTAKES
    used: set[str] = set()
    try:
        place.mkdir(exist_ok=True)  # There already in a run that was interrupted after this.
        for row in report.wrong.tolist():
            pair = " as ".join(_plain(report.named(labels)) for labels in report.decisions(row))
            file = str(report.names[row])
            name = os.path.basename(file)
            link = os.path.join(pair, f"{100 * confidence[row]:03.0f} {name}")
            if link in used:  # Two files of one name in different folders.
                link = os.path.join(pair, f"{100 * confidence[row]:03.0f} {row} {name}")
            used.add(link)
            (place / pair).mkdir(exist_ok=True)
            if not os.path.lexists(place / link):
                (place / link).symlink_to(os.path.join(report.data_report.root, file))
    except OSError as error:  # Such as a file system without links.
        return f"Links to the misclassified images cannot be written to {place}: {error.strerror or error}."
    return f"{len(used):,} links to misclassified images are in {run_folder.MISTAKES}/."


def _plain(name):
    """A class name that can be part of a folder's name."""
    text = re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name).strip(". ")
    return text.encode()[:NAME_BYTES].decode(errors="ignore") or "_"
