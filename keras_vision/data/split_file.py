"""`splits.csv`: which image a run used for what. A later run takes it again with `--splits`."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np

from keras_vision.data import label_table
from keras_vision.data.data_report import MOST_SET_ASIDE
from keras_vision.data.splits import Splits
from keras_vision.recipe import InputError

COLUMNS = ("file", "split", "class", "group", "sha256")


def text_of(splits: Splits) -> str | None:
    """The file's text, a row per image; None where images have no files."""
    report = splits.report
    if report is None or not report.names:
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for split, content in splits.named().items():
        count = len(content)
        found = [part.get(split, [""] * count) for part in (report.groups, report.digests)]
        for name, label, group, digest in zip(report.names[split], content.labels, *found, strict=True):
            writer.writerow([Path(name).as_posix(), split, _class(splits.class_names, label), group, digest])
    return text.getvalue()


def _class(class_names, label):
    """The name of an image's class, or the names of its labels."""
    if np.ndim(label) == 0:
        return class_names[label]
    return "|".join(class_names[place] for place in np.flatnonzero(label))


def applied(listing: Any, path: Path) -> Any:
    """A listing of files with the splits, and where it has none the groups, of a `splits.csv`.

    Args:
        listing: Files with labels, as in `folders`.
        path: A table with at least the columns file and split.

    Raises:
        InputError: If it is no such table, a file's class is another, or more than 5 % of its files are gone.
    """
    names, rows = label_table.read_rows(path)
    missing = [name for name in COLUMNS[:2] if name not in names]
    if missing:
        raise InputError(f"--splits {path} lacks the column {missing[0]}; it has {', '.join(names)}.")
    known = {Path(row["file"]): row for row in rows}
    if len(known) < len(rows):
        raise InputError(f"--splits {path} lists a file twice.")
    places = {Path(file): place for place, file in enumerate(listing.files)}
    gone = [str(file) for file in known if file not in places]
    if len(gone) > MOST_SET_ASIDE * len(known):
        raise InputError(f"--splits {path}: {len(gone):,} of {len(known):,} files are not there, such as {gone[0]}.")
    kept = [file for file in known if file in places]
    order = np.array([places[file] for file in kept])
    splits = [known[file]["split"] for file in kept]
    wrong = set(splits) - {"train", "val", "test"}
    if wrong:
        raise InputError(f"--splits {path} has the split {wrong.pop()!r}; splits are train, val and test.")
    for file, place in zip(kept, order, strict=True):
        name = _class(listing.class_names, listing.labels[place])
        if known[file].get("class", name) != name:
            raise InputError(f"--splits {path}: {file} has the class {known[file]['class']!r} there and {name!r} here.")
    groups = None if listing.groups is None else listing.groups[order]
    if groups is None and all(row.get("group") for row in rows):
        groups = np.array([known[file]["group"] for file in kept], object)
    notes = listing.notes
    if len(listing.files) > len(kept):
        left = next(file for file in listing.files if Path(file) not in known)
        notes += (
            f"{len(listing.files) - len(kept):,} images have no row in {path.name} and are left out, such as {left}.",
        )
    return dataclasses.replace(
        listing,
        files=listing.files[order],
        labels=listing.labels[order],
        splits=np.array(splits, object),
        groups=groups,
        described=f"splits from {path.name}",
        notes=notes,
        set_aside=listing.set_aside | dict.fromkeys(gone, f"listed in {path.name}, but there is no such file"),
        digests={str(file): known[file]["sha256"] for file in kept if known[file].get("sha256")},
    )
