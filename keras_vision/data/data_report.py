"""What was found in the files of a data set and between its splits, for `data_report.json` and the report."""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from keras_vision.data import leaks
from keras_vision.data.rows import select
from keras_vision.data.splits import Split, check_splits
from keras_vision.recipe import InputError

SHOWN_PAIRS = 24


@dataclass(frozen=True)
class DataReport:
    """What a person should know of the data before believing a figure on it.

    Attributes:
        files: How many files were read; None for data that is not in files of one picture each.
        set_aside: `{name: reason}` of the files that are in no split.
        remarks: `{name: text}` of those that were not what their names say.
        names: Names of the files by split, row by row; empty where pictures have none.
        leaks: What was found between the splits, None where nobody looked: dicts of `pictures` (`{split: name}`),
            `likeness`, `exact` and `same_class`.
        dropped: How many images left train because they, or nearly they, stand in another split.
        pairs: The likest pairs as pictures, uint8, shape `(P, 2, H, W, C)`.
    """

    files: int | None = None
    set_aside: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    names: dict[str, np.ndarray] = field(default_factory=dict)
    leaks: tuple[dict, ...] | None = None
    dropped: int = 0
    pairs: np.ndarray | None = None

    def to_dict(self):
        """All but the pictures, JSON-ready."""
        return {
            "files": self.files,
            "set_aside": self.set_aside,
            "remarks": self.remarks,
            "leaks": None if self.leaks is None else list(self.leaks),
            "dropped_from_train": self.dropped,
        }

    def summary(self):
        """Lines for the terminal; empty where there is nothing to say."""
        lines = []
        if self.set_aside:
            shown = "; ".join(f"{name}: {reason}" for name, reason in list(self.set_aside.items())[:3])
            more = "; ..." if len(self.set_aside) > 3 else ""
            lines.append(f"{len(self.set_aside)} files set aside ({shown}{more}), all in data_report.json.")
        if self.leaks is not None:
            exact = sum(leak["exact"] for leak in self.leaks)
            dropped = f"; {self.dropped} images dropped from train" if self.dropped else ""
            lines.append(f"Leaks between splits: {exact} exact, {len(self.leaks) - exact} near duplicates{dropped}.")
        return "\n".join(lines)


def audited(splits, *, drop, where):
    """The same splits with a report that tells the leaks between them.

    Args:
        splits: `Splits` of pictures.
        drop: Whether what leaks is taken out of train.
        where: Name of the data, for messages.

    Raises:
        InputError: If the images are no pictures, or nothing of a class is left in train.
    """
    if splits.train.images.ndim != 4:
        raise InputError(
            f"--audit-leaks and --drop-leaks look at pictures. Received: shape {splits.train.images.shape}."
        )
    found = leaks.find(splits)
    report = splits.report or DataReport()
    rows = {leak.rows[0] for leak in found if leak.splits[0] == "train"} if drop else set()
    report = dataclasses.replace(
        report,
        leaks=tuple(_record(leak, splits, report.names) for leak in found),
        dropped=len(rows),
        pairs=np.array([[_picture(splits, leak, side) for side in (0, 1)] for leak in found[:SHOWN_PAIRS]]),
    )
    splits = dataclasses.replace(splits, report=report)
    if not rows:
        return splits
    kept = np.setdiff1d(np.arange(len(splits.train)), list(rows))
    train = Split(select(splits.train.images, kept), splits.train.labels[kept])
    splits = dataclasses.replace(splits, train=train)
    check_splits(splits, f"{where} after --drop-leaks")
    return splits


def _picture(splits, leak, side):
    return splits.named()[leak.splits[side]].images[leak.rows[side]]


def _record(leak, splits, names):
    labels = [splits.named()[name].labels[row] for name, row in zip(leak.splits, leak.rows, strict=True)]
    pictures = {
        name: str(names[name][row]) if name in names else f"number {row}"
        for name, row in zip(leak.splits, leak.rows, strict=True)
    }
    return {
        "pictures": pictures,
        "likeness": round(leak.likeness, 3),
        "exact": leak.exact,
        "same_class": bool(labels[0] == labels[1]),
    }
