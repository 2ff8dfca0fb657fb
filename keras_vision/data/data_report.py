"""Findings in the files of a data set and between its splits, for `data_report.json` and the report."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

MOST_SET_ASIDE = 0.05  # Of all images or rows; with more, the data is not what somebody believes it to be.


@dataclass(frozen=True)
class LeakRecord:
    """An image that appears in two splits, as a report shows it.

    Attributes:
        splits: Names of the two splits.
        names: The image's file in each, or its number where images have no files.
        likeness: Correlation of the details of both, up to 1.
        exact: Whether the pixels are the same.
        same_class: Whether both have the same label.
    """

    splits: tuple[str, str]
    names: tuple[str, str]
    likeness: float
    exact: bool
    same_class: bool


@dataclass(frozen=True)
class DataReport:
    """Facts about the data to know before trusting a metric on it.

    Attributes:
        files: How many files were read; None for data that does not come as one file per image.
        set_aside: `{name: reason}` of the files that are in no split.
        remarks: `{name: text}` of the files whose content does not match their extension, or whose values are unusual.
        root: The folder that the names of files are relative to; empty where there is none.
        names: Names of the files by split, row by row; empty where images have no files.
        groups: The group of each image by split; empty where none are known.
        digests: SHA-256 of each file by split.
        notes: Sentences about layout, labels and groups that a user may not expect.
        leaks: Images found in two splits, None if not searched.
        dropped: How many images were removed from train because they also appear, exactly or nearly, elsewhere.
        pairs: The most similar pairs, uint8, shape `(P, 2, H, W, C)`.
    """

    files: int | None = None
    set_aside: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    root: str = ""
    names: dict[str, np.ndarray] = field(default_factory=dict)
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    digests: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    leaks: tuple[LeakRecord, ...] | None = None
    dropped: int = 0
    pairs: np.ndarray | None = None

    @property
    def exact_leaks(self) -> int:
        """How many of the leaks have the same pixels; the others are near duplicates."""
        return sum(leak.exact for leak in self.leaks or ())

    def of_rows(self, split: str, rows: np.ndarray) -> "DataReport":
        """The same report where only some rows of a split are left."""
        kept = {
            name: {**getattr(self, name), split: getattr(self, name)[split][rows]}
            for name in ("names", "groups", "digests")
            if split in getattr(self, name)
        }
        return replace(self, **kept)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the images, JSON-ready."""
        return {
            "files": self.files,
            "set_aside": self.set_aside,
            "remarks": self.remarks,
            "notes": list(self.notes),
            "leaks": None if self.leaks is None else [asdict(leak) for leak in self.leaks],
            "dropped_from_train": self.dropped,
        }

    def summary(self) -> str:
        """Lines for the terminal; empty if there is nothing to report."""
        lines = list(self.notes)
        if self.set_aside:
            shown = "; ".join(f"{name}: {reason}" for name, reason in list(self.set_aside.items())[:3])
            more = "; ..." if len(self.set_aside) > 3 else ""
            lines.append(f"{len(self.set_aside)} files set aside ({shown}{more}), all in data_report.json.")
        if self.remarks:
            name, remark = next(iter(self.remarks.items()))
            lines.append(f"{len(self.remarks)} files with a remark ({name}: {remark}), all in data_report.json.")
        if self.leaks is not None:
            near = len(self.leaks) - self.exact_leaks
            dropped = f"; {self.dropped} images dropped from train" if self.dropped else ""
            lines.append(f"Leaks between splits: {self.exact_leaks} exact, {near} near duplicates{dropped}.")
        return "\n".join(lines)
