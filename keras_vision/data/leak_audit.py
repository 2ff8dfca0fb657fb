"""The leak audit of a data set's splits, behind `--audit-leaks` and `--drop-leaks`."""

import dataclasses

import numpy as np

from keras_vision.data import leaks
from keras_vision.data.data_report import DataReport, LeakRecord
from keras_vision.data.rows import select
from keras_vision.data.splits import Split, Splits, check_splits
from keras_vision.recipe import InputError

SHOWN_PAIRS = 24


def audited(splits: Splits, *, drop: bool, where: str) -> Splits:
    """The same splits with a report of the leaks between them.

    Args:
        splits: `Splits` of 2D images.
        drop: Whether to remove from train every image that also appears in val or test.
        where: Name of the data, for messages.

    Raises:
        InputError: If the images are volumes, or a class has no image left in train.
    """
    if splits.train.images.ndim != 4:
        raise InputError(
            "--audit-leaks and --drop-leaks compare images of shape (H, W, C). "
            f"Received: shape {splits.train.images.shape[1:]}."
        )
    duplicates = leaks.find(splits)
    report = splits.report or DataReport()
    rows = {leak.rows[0] for leak in duplicates if leak.splits[0] == "train"} if drop else set()
    report = dataclasses.replace(
        report,
        leaks=tuple(_record(leak, splits, report.names) for leak in duplicates),
        dropped=len(rows),
        pairs=np.array([[_image(splits, leak, side) for side in (0, 1)] for leak in duplicates[:SHOWN_PAIRS]]),
    )
    splits = dataclasses.replace(splits, report=report)
    if not rows:
        return splits
    kept = np.setdiff1d(np.arange(len(splits.train)), list(rows))
    train = Split(select(splits.train.images, kept), splits.train.labels[kept])
    splits = dataclasses.replace(splits, train=train, report=report.of_rows("train", kept))
    check_splits(splits, f"{where} after --drop-leaks")
    return splits


def _image(splits, leak, side):
    return splits.named()[leak.splits[side]].images[leak.rows[side]]


def _record(leak, splits, names):
    sides = list(zip(leak.splits, leak.rows, strict=True))
    first, second = (splits.named()[name].labels[row] for name, row in sides)
    shown = [str(names[name][row]) if name in names else f"number {row}" for name, row in sides]
    return LeakRecord(
        leak.splits, (shown[0], shown[1]), round(leak.likeness, 3), leak.exact, bool(np.array_equal(first, second))
    )
