"""The test images of a run that its page shows: those of its report, found in its data by their hashes."""

import base64
import csv
import hashlib
import io
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_vision import backend
from keras_vision.files import outside
from keras_vision.pipeline import folder as run_folder
from keras_vision.recipe import DataSpec, InputError, first_line, printable

HEAT_BATCH = 16  # Images whose gradients are computed at once.
MOST_IMAGE_BYTES = 2**20  # Of the report's heatmaps, which a page need not have.


@dataclass(frozen=True)
class Gallery:
    """What a page shows of a run.

    Attributes:
        images: JSON-ready, one per image: `name`, `truth`, `png` in base64; where there is a heatmap also `heat`, a
            gray PNG in base64, and `heatOf`, the class that it explains.
        note: A sentence on them.
        method: Name of the heatmaps' method.
        heatmaps: The report's heatmaps, PNG, where the images have none of their own; else None.
        caption: A sentence on these.
    """

    images: list[dict[str, str]]
    note: str = ""
    method: str = ""
    heatmaps: bytes | None = None
    caption: str = ""


def read(run: Path, most: int) -> Gallery:
    """The gallery of a run; without images where its data is not there any more, which is told on standard error.

    Args:
        run: The run's folder.
        most: How many images at most.

    Raises:
        InputError: If the run is not finished or its files are damaged.
    """
    report = run_folder.read_run(run).report
    try:
        heatmaps, caption = _heatmaps(run, report)
        rows = _rows(run, report, most)
        spec, seed = _data_spec(run)
    except (LookupError, TypeError, ValueError, AttributeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise run_folder.damaged(run, error) from error
    try:
        images = _images(spec, seed, str(report.get("split")), rows) if rows else {}
    except (InputError, OSError) as error:
        print(f"note: the page shows no test images: {printable(first_line(error))}", file=sys.stderr)
        return Gallery([], "", "", heatmaps, caption)
    names = [str(name) for name in report["class_names"]]
    rows = [row for row in rows if row["image_sha256"] in images]
    shown = [images[row["image_sha256"]] for row in rows]
    method, explained = _explained(run, report, shown, names)
    found = [_item(row, image, names) | extra for row, image, extra in zip(rows, shown, explained, strict=True)]
    note = (
        f"From the {report.get('split')} split, which the model was not trained on: the first of each class, and the "
        "most confident mistakes. Click one to classify it."
    )
    return Gallery(found, note, method) if method else Gallery(found, note, "", heatmaps, caption)


def _explained(run, report, images, names):
    """The report's method, and for each image the heatmap that it gives of the run's model; "" where there are none."""
    spec = (report.get("recipe") or {}).get("explanation") or {}
    method, layers = spec.get("explain"), spec.get("explained_layer")
    nothing = "", [{} for _ in images]
    if not images or method in (None, "none"):
        return nothing
    try:
        # With Keras, as the images.
        explanation = backend.import_quietly("keras_vision.explanation")
        model = backend.import_quietly("keras_vision.models.saved").read_model(run / run_folder.MODEL)
        images = np.stack(images)
        labels = explanation.probabilities(model, images, batch_size=HEAT_BATCH).argmax(axis=1)
        where = {} if layers is None else {"layers": layers[0]}
        heatmaps = explanation.METHODS[method](model, images, labels, batch_size=HEAT_BATCH, **where)
    except InputError as error:
        print(
            f"note: the page shows no heatmaps beside the test images: {printable(first_line(error))}", file=sys.stderr
        )
        return nothing
    return method, [
        {"heat": _png(np.uint8(np.round(255 * heatmap))), "heatOf": names[label]}
        for heatmap, label in zip(heatmaps, labels, strict=True)
    ]


def _heatmaps(run, report):
    place = run_folder.plot_file(run, "heatmaps")
    if not place.is_file() or place.stat().st_size > MOST_IMAGE_BYTES:
        return None, ""
    return outside.read_bytes(place, MOST_IMAGE_BYTES), str(report.get("heatmaps") or "")


def _rows(run: Path, report: dict[str, Any], most: int) -> list[dict[str, str]]:
    """The rows of the report's images: the first of each class, then the most confident mistakes."""
    text = outside.read_text(run / run_folder.PREDICTIONS)
    every = list(csv.DictReader(io.StringIO(text, newline="")))
    recipe = report.get("recipe") or {}
    each = int(recipe.get("explanation", {}).get("explained_per_class") or 2)
    chosen: dict[str, dict[str, str]] = {}
    for label in range(len(report["class_names"])):
        having = [row for row in every if str(label) in row["label"].split("|")]
        chosen |= {row["image_sha256"]: row for row in having[:each]}
    wrong = [row for row in every if row["label"] != row["predicted"]]
    for row in sorted(wrong, key=_confidence, reverse=True)[
        : int(recipe.get("evaluation", {}).get("misclassified", 25))
    ]:
        chosen.setdefault(row["image_sha256"], row)
    return list(chosen.values())[:most]


def _confidence(row):
    return max(float(value) for name, value in row.items() if name.startswith("p_"))


def _data_spec(run: Path) -> tuple[DataSpec, int]:
    """The data of a run and its seed."""
    recipe = outside.read_json(run / run_folder.RECIPE)
    known = {item.name for item in fields(DataSpec)}
    written = {name: value for name, value in recipe["data"].items() if name in known}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in written.items()
    }
    spec = DataSpec(**values)
    # Duplicates and what is left out of train do not change the split that was evaluated.
    return replace(spec, audit_leaks=False, drop_leaks=False), int(recipe.get("seed") or 0)


def _images(spec: DataSpec, seed: int, split: str, rows: list[dict[str, str]]) -> dict[str, np.ndarray]:
    """The images by the SHA-256 of their pixels."""
    wanted, found = {row["image_sha256"] for row in rows}, {}
    # With Keras, which a page of files alone does without.
    splits = backend.import_quietly("keras_vision.data").load_splits(spec, seed)
    for image in getattr(splits, split if split in ("train", "val", "test") else "test").images:
        image = np.ascontiguousarray(image)
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        if digest in wanted:
            found[digest] = image
    return found


def _item(row, image, names):
    labels = [names[int(label)] for label in row["label"].split("|") if label]
    shown = image if image.shape[-1] == 1 else image[..., ::-1]
    name = Path(row["file"]).name if row.get("file") else f"test image {row['image_sha256'][:8]}"
    return {"name": name, "truth": ", ".join(labels) or "no label", "png": _png(shown)}


def _png(image):
    return base64.b64encode(cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes()).decode("ascii")
