"""A run's model for other runtimes: ONNX, OpenVINO, torch, SavedModel, and C for microcontrollers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_vision import data, quantization
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline.progress import Progress
from keras_vision.pipeline.tables import Table
from keras_vision.quantization import checking, exporting
from keras_vision.quantization.exporting import Exported
from keras_vision.recipe import EXPORTS, INTEGER_EXPORTS, InputError, Recipe

MOST_COMPARED = 1000  # Images.


def write_exports(
    folder: Path,
    recipe: Recipe,
    splits: data.Splits,
    model: Any,
    judged: data.Batches,
    metadata: quantization.Metadata,
    progress: Progress,
) -> tuple[Exported, ...]:
    """Writes the formats that the recipe asks for; one that is refused leaves its reason, since the run goes on.

    Args:
        folder: The run's folder.
        recipe: A `Recipe`.
        splits: The data.
        model: The trained `keras.Model`.
        judged: Batches of the evaluated split.
        metadata: What each file says of itself.
        progress: What is done already.

    Returns:
        What is known of each format, in the order of `recipe.EXPORTS`.
    """
    place = folder / run_folder.EXPORTS
    place.mkdir(exist_ok=True)
    files = [folder / run_folder.tflite_names(scheme)[0] for scheme in ("qat", "int8")]
    integer = next((file.read_bytes() for file in files if file.is_file()), None)
    images = checking.some(judged.split.images, MOST_COMPARED)
    logits = recipe.quantization.tflite_logits
    made = []
    for name in ordered(recipe.quantization.export or ()):

        def make(name=name):
            return export(name, place, model, images, metadata, integer, logits=logits)

        made.append(progress.once(f"exporting to {name}", Exported, make))
    return tuple(made)


def ordered(formats: Sequence[str]) -> list[str]:
    """Formats without repetitions, in the order of `recipe.EXPORTS`."""
    return [name for name in EXPORTS if name in formats]


def export(
    format: str,
    place: Path,
    model: Any,
    images: Any,
    metadata: quantization.Metadata,
    integer: bytes | None,
    *,
    logits: bool = False,
) -> Exported:
    """One format, or why there is none.

    Args:
        format: One of `recipe.EXPORTS`.
        place: The files' folder.
        model: The `keras.Model`.
        images: Images to compare on, as the model takes them.
        metadata: What the file says of itself.
        integer: The bytes of an integer .tflite file; None where there is none.
        logits: Whether the file ends in logits.
    """
    print(f"Exporting to {format}...", flush=True)
    try:
        if format not in INTEGER_EXPORTS:
            return quantization.export(model, format, place, images, metadata, logits=logits)
        if integer is None:
            raise InputError("There is no integer .tflite file to make it from.")
        if format == "c_array":
            return exporting.export_c_array(integer, place, metadata)
        return exporting.export_integers(integer, place, images, metadata)
    except InputError as error:
        print(f"No {format} file: {error}", flush=True)
        return Exported(format, None, refusal=str(error))


def exports_table(made: Sequence[Exported]) -> Table:
    """Head and rows: a row for each format, beside the model."""
    head = ["format", "file", "run by", "images", "same answer", "largest difference", "bytes", "ms, 1 thread"]
    return head, [_row(one) for one in made]


def _row(one):
    if one.refusal is not None:
        return [one.format, "none", "-", "-", "-", "-", "-", "-"]
    row = [one.format, one.file, one.judge, f"{one.images:,}" if one.images else "-"]
    row.append("-" if one.same_answer is None else f"{one.same_answer:.2%}")
    row.append("-" if one.largest_difference is None else f"{one.largest_difference:.1e}")
    return [*row, f"{one.bytes:,}", "-" if one.milliseconds is None else f"{one.milliseconds:.2f}"]


def refusals(made: Sequence[Exported]) -> list[str]:
    """Why a format has no file, a sentence each."""
    return [f"No {one.format} file: {one.refusal}" for one in made if one.refusal is not None]
