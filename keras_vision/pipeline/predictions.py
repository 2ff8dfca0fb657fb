"""A run's answers image by image: `predictions.csv`, and links to the files that were misclassified."""

import csv
import hashlib
import io
import os
import re
from pathlib import Path

import numpy as np

from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline.report import Report

NAME_BYTES = 100


def text_of(report: Report) -> str:
    """Each evaluated image by its file, if it has one, and by the hash of its pixels, as CSV text.

    Two runs can be compared image by image although their files differ in order.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = report.names
    columns = [f"p_{label}" for label in range(report.probabilities.shape[1])]
    writer.writerow([*["file"] * (names is not None), "image_sha256", "label", "predicted", *columns])
    for number, (image, label, row) in enumerate(zip(report.images, report.labels, report.probabilities, strict=True)):
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        file = [] if names is None else [Path(names[number]).as_posix()]
        writer.writerow([*file, digest, label, row.argmax(), *(f"{value:.6g}" for value in row)])
    return text.getvalue()


def link_mistakes(folder: Path, report: Report) -> str:
    """Writes links to the misclassified files: `mistakes/TRUE as PREDICTED/93 NAME`, 93 % being the confidence.

    Args:
        folder: The run's folder.
        report: Its report.

    Returns:
        A sentence on what was written.
    """
    predicted, confidence = report.probabilities.argmax(axis=1), report.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != report.labels)
    if report.names is None or report.data_report is None:
        return "The images have no files, so there are no links to the misclassified ones."
    place = folder / run_folder.MISTAKES
    used: set[str] = set()
    try:
        place.mkdir(exist_ok=True)  # There already in a run that was interrupted after this.
        for row in wrong:
            pair = f"{_plain(report.class_names[report.labels[row]])} as {_plain(report.class_names[predicted[row]])}"
            name = os.path.basename(report.names[row])
            link = os.path.join(pair, f"{100 * confidence[row]:03.0f} {name}")
            if link in used:  # Two files of one name in different folders.
                link = os.path.join(pair, f"{100 * confidence[row]:03.0f} {row} {name}")
            used.add(link)
            (place / pair).mkdir(exist_ok=True)
            if not os.path.lexists(place / link):
                (place / link).symlink_to(os.path.join(report.data_report.root, report.names[row]))
    except OSError as error:  # Such as a file system without links.
        return f"Links to the misclassified images cannot be written to {place}: {error.strerror or error}."
    return f"{len(used):,} links to misclassified images are in {run_folder.MISTAKES}/."


def _plain(name):
    """A class name that can be part of a folder's name."""
    text = re.sub(r'[/\\:*?"<>|\x00-\x1f]', "_", name).strip(". ")
    return text.encode()[:NAME_BYTES].decode(errors="ignore") or "_"
