"""Predicts a folder or a list in shards, and goes on with those that are missing."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_vision.many_images import listing, processes
from keras_vision.many_images.plan import FORMATS, UNREADABLE, Plan, begin, held
from keras_vision.many_images.predictor import Predictor
from keras_vision.many_images.progress import Progress
from keras_vision.recipe import InputError, printable


@dataclass(frozen=True)
class Summary:
    """What is in the folder.

    Attributes:
        out: The folder.
        images: Number of rows.
        shards: Number of files.
        unread: Number of images that are not read.
        unusual: Number of images with a remark.
        remarks: Some of them: `(path, remark)`.
    """

    out: Path
    images: int
    shards: int
    unread: int
    unusual: int
    remarks: list[tuple[str, str]]

    def __str__(self) -> str:
        return f"{self.images:,} images in {self.shards:,} shards: {self.out}"


def predict(
    model: str | os.PathLike,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    shards: int,
    processes: int | None = None,
    format: str = "csv",
    all_scores: bool = True,
    ray: str | None = None,
    class_names: Sequence[str] | None = None,
    input_range: Sequence[float] | None = None,
    resize: str | None = None,
    intensity_range: Sequence[float] | None = None,
    threads: int = 1,
) -> Summary:
    """Predicts images with a .tflite file in several processes, into files with a row for each image.

        many_images.predict("int8.tflite", "photos", "predictions", shards=16)

    Called again after an interruption, it goes on with the shards that are missing.

    Args:
        model: A .tflite file.
        source: A folder, or a text file with a path or an address a line.
        out: Folder of the shards.
        shards: Number of files that are written.
        processes: At once; by default one for each core.
        format: `csv` or `parquet`.
        all_scores: Whether there is a column for the score of each class.
        ray: Address of a Ray cluster that runs the shards; `local` starts one on this machine.
        class_names, input_range, resize, intensity_range, threads: See `Classifier.open`.

    Raises:
        InputError: If the model, the images or the folder cannot be used, the folder was begun with others, or the
            process of a shard ended again and again.
    """
    if format not in FORMATS:
        raise InputError(f"--format is one of {', '.join(FORMATS)}. Received: {format!r}.")
    if shards < 1 or (processes is not None and processes < 1) or threads < 1:
        raise InputError("--shards, --processes and --threads take a number of at least 1.")
    if format == "parquet":
        _require_pyarrow()
    opening = {
        "model": os.path.expanduser(model),
        "class_names": None if class_names is None else list(class_names),
        "input_range": None if input_range is None else list(input_range),
        "resize": resize,
        "intensity_range": None if intensity_range is None else list(intensity_range),
        "threads": threads,
        "all_scores": all_scores,
    }
    predictor = Predictor(**opening)
    opening["model"] = os.path.abspath(opening["model"])  # For processes that work elsewhere.
    # What a sidecar says is passed on, so that it cannot change meanwhile.
    opening["class_names"] = list(predictor.classifier.class_names)
    identity = {**predictor.identity, "format": format, "shards": shards}
    plan = Plan(os.path.abspath(out), os.getcwd(), opening, format, shards, identity)
    with held(plan):
        plan = begin(os.fspath(source), plan)
        _predict_missing(plan, processes, ray)
        return _summary(plan, Path(out))


def _require_pyarrow():
    try:
        import pyarrow.parquet  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InputError("--format parquet needs pyarrow: pip install 'keras-vision[parquet]'.") from error


def _predict_missing(plan, count, ray):
    every = listing.divide(plan.paths, plan.identity["images"], plan.shards)
    missing = [shard for shard in every if plan.receipt(shard.index) is None]
    if not missing:
        return
    before = plan.identity["images"] - sum(shard.count for shard in missing)
    progress = Progress(plan.identity["images"], before)
    if before:
        progress.say(f"{plan.shards - len(missing):,} of {plan.shards:,} shards are there already.")
    try:
        if ray is None:
            processes.predict(plan, missing, count or processes.cores(), progress)
        else:
            from keras_vision.many_images import ray_stage

            ray_stage.predict(plan, missing, ray, count, progress)
    except KeyboardInterrupt:
        progress.say("Finished shards are kept; the same command goes on with the others.")
        raise
    finally:
        progress.show(last=True)


def _summary(plan, out):
    """Counts what was written, and checks that it is complete."""
    receipts = [plan.receipt(index) for index in range(plan.shards)]
    images = sum(receipt.images for receipt in receipts if receipt is not None)
    if None in receipts or images != plan.identity["images"]:
        raise InputError(f"{out} is not complete: {images:,} of {plan.identity['images']:,} images. Run it again.")
    plan.collect_unread()
    known = [receipt for receipt in receipts if receipt is not None]
    remarks = [(path, remark) for receipt in known for path, remark in receipt.remarks]
    unread, unusual = (sum(getattr(receipt, name) for receipt in known) for name in ("unread", "unusual"))
    return Summary(out, images, plan.shards, unread, unusual, remarks[:3])


def tell(summary: Summary) -> None:
    """Prints what is unusual, how many files were not read, and where the rows are."""
    for path, remark in summary.remarks:
        more = f" ({summary.unusual:,} such files)" if summary.unusual > 3 else ""
        print(f"note: {printable(path)}: {remark}{more}", file=sys.stderr)
    if summary.unread:
        files = "1 file was" if summary.unread == 1 else f"{summary.unread:,} files were"
        print(f"error: {files} not read; {summary.out / UNREADABLE} has the reasons.", file=sys.stderr)
    print(summary)
