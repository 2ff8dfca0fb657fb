"""Labels from a table: a CSV with a row per image, its file name, its label, and perhaps its split and its group.

Columns are found by name and content, or given. File names may lack their folder or their suffix, or come from another
machine: the file whose path agrees with the most of a name is meant, and two that agree as well are reported.
"""

import collections
import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_vision.data import folder_layout
from keras_vision.data.data_report import MOST_SET_ASIDE
from keras_vision.files import image_files, outside
from keras_vision.recipe import TABLES, InputError, flag

FILES = ("file", "filename", "file_name", "image", "image_id", "imageid", "img", "path", "filepath", "id", "name")
LABELS = (
    "label",
    "labels",
    "class",
    "class_name",
    "classname",
    "category",
    "target",
    "diagnosis",
    "dx",
    "species",
    "y",
    "tags",
    "finding_labels",
)
SPLITS = ("split", "set", "subset", "partition", "usage", "dataset")
GROUPS = re.compile(r"patient|subject|lesion|study|person|animal|plant_?id|group|session|video|series|case|site")
# Between the labels of an image with several.
SEPARATORS = ("|", ";", ",", " ")
TRIED = 200  # Rows that decide what a column is.
MOST_CLASSES_SHOWN = 8


@dataclass(frozen=True)
class Table:
    """The rows of a table whose files are there.

    Attributes:
        files: Paths relative to the folder of the images.
        labels: The labels of each; one, unless `several`.
        class_names: The labels that there are, in order.
        several: Whether an image can have several labels, or none.
        splits: `train`, `val` or `test` of each; None where the table has no such column.
        groups: The group of each; None where no column was asked for.
        described: The columns that were read, in a few words.
        notes: Sentences about what a user may not expect.
        set_aside: `{name: reason}` of rows and files that cannot be used.
        unlisted: Images in the folder without a row.
    """

    files: list[str]
    labels: list[tuple[str, ...]]
    class_names: tuple[str, ...]
    several: bool
    splits: list[str] | None
    groups: list[str] | None
    described: str
    notes: tuple[str, ...] = ()
    set_aside: dict[str, str] = field(default_factory=dict)
    unlisted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """What a user says of a table's columns; None is found.

    Attributes:
        file: Column of the file names.
        label: Column of the labels, or several, one for each class, with 1 for yes.
        separator: What stands between the labels of an image with several; empty where a cell is one label.
        split: Column of the splits.
        group: Column of the groups, or a pattern on file names, which is no column; not found, only given.
    """

    file: str | None = None
    label: tuple[str, ...] | None = None
    separator: str | None = None
    split: str | None = None
    group: str | None = None


def read(path: Path, images: Path, columns: Columns = Columns()) -> Table:
    """A table's rows, with the files that they mean.

    Args:
        path: A CSV file, with commas, semicolons or tabs, and names in its first row.
        images: The folder that has the images, at any depth.
        columns: What the user says.

    Raises:
        InputError: If the table cannot be read, or it is not clear what its columns are.
    """
    names, rows = read_rows(path)
    index = Index(folder_layout.scan(images).everything())
    file_column = _file_column(path, images, names, rows, index, columns.file)
    split_column = _split_column(path, names, rows, columns.split, file_column)
    group_column = columns.group if columns.group in names else None
    if columns.group is not None and columns.group.isidentifier():
        _require(path, names, "group_by", columns.group)
    if index.has(file_column) and _plain(file_column) not in FILES:
        raise InputError(f"{path} has no column names: its first row already names the file {file_column}.")
    known = {file_column, split_column, group_column}
    label_columns = _label_columns(path, names, rows, columns.label, known)
    separator = _separator(path, rows, label_columns, columns.separator)
    rows_of: dict[str, list[tuple]] = {}
    set_aside: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        name = row[file_column]
        split = folder_layout.split_of(row[split_column]) if split_column else None
        if split_column and split is None:
            raise InputError(
                f"{path}, line {number}: the column {split_column!r} has {row[split_column]!r}, which is no split. "
                "Splits are train, val and test."
            )
        file, reason = index.find(name, split)
        label, wrong = _labels(row, label_columns, separator)
        group = row[group_column] if group_column else None
        if file is None or wrong or group == "":
            set_aside[name or f"line {number}"] = reason if file is None else wrong or "no group"
            continue
        rows_of.setdefault(file, []).append((label, split, group))
    for file, found in list(rows_of.items()):
        if len(set(found)) > 1:
            what = " and ".join(sorted({" ".join(row[0]) or "no label" for row in found}))
            set_aside[file] = f"listed {len(found)} times in {path.name}, with different values: {what}"
            del rows_of[file]
    several = separator is not None
    if len(label_columns) > 1:
        several = _has_several(path, label_columns, [found[0][0] for found in rows_of.values()], columns)
        for file in [file for file, found in rows_of.items() if not several and len(found[0][0]) != 1]:
            set_aside[file] = "two labels or more" if rows_of[file][0][0] else "no label"
            del rows_of[file]
    files = sorted(rows_of)
    first = [rows_of[file][0] for file in files]
    if not files:
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(set_aside.items())[:3])
        raise InputError(f"{path} names no image of {images} with a label. {shown or 'It has no rows'}.")
    labels = [row[0] for row in first]
    found = dict.fromkeys(name for label in labels for name in label)
    classes = tuple(label_columns) if len(label_columns) > 1 else ordered_classes(list(found))
    shown, notes = folder_layout.shown_names({"all": found})
    if several:
        notes += (_several_note(labels, separator),)
    others = (file for file in index.paths - rows_of.keys() - set_aside.keys() if image_files.meant_as_image(file))
    return Table(
        files,
        [tuple(shown[name] for name in label) for label in labels],
        tuple(dict.fromkeys(shown.get(name, name) for name in classes if several or name in found)),
        several,
        [row[1] for row in first] if split_column else None,
        [row[2] for row in first] if group_column else None,
        _described(path, file_column, label_columns, split_column, group_column),
        (*notes, *_notes(names, known | set(label_columns))),
        set_aside,
        tuple(sorted(others)),
    )


def is_table(path: Path) -> bool:
    """Whether a path names a table and not a folder."""
    return path.suffix.lower() in TABLES and not path.is_dir()


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and rows of a CSV file.

    Raises:
        InputError: If it cannot be read, has no rows, or names a column twice.
    """
    text = outside.read_text(path)
    head = text[: text.find("\n") if "\n" in text else len(text)]
    delimiter = max(",;\t", key=head.count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as CSV: {error}.") from error
    lines = [[cell.strip() for cell in line] for line in lines if any(cell.strip() for cell in line)]
    if len(lines) < 2:
        raise InputError(f"{path} has no rows below its column names.")
    names = [name or f"column {place}" for place, name in enumerate(lines[0], 1)]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{path} has a column twice: {', '.join(twice)}.")
    uneven = next((number for number, line in enumerate(lines, 1) if len(line) != len(names)), None)
    if uneven is not None:
        raise InputError(
            f"{path}: row {uneven} has {len(lines[uneven - 1])} cells, but there are {len(names)} columns."
        )
    return names, [dict(zip(names, line, strict=True)) for line in lines[1:]]


class Index:
    """Finds the file that a name in a table means.

    Args:
        paths: Files, relative to the folder of the images.
    """

    def __init__(self, paths: Iterable[str]):
        self.paths = {path for path in paths if os.path.basename(path)}
        self._named: dict[str, list[str]] = collections.defaultdict(list)
        for path in self.paths:
            name = os.path.basename(path).casefold()
            self._named[name].append(path)
            if image_files.meant_as_image(path):
                stem = name.removesuffix(".gz").rpartition(".")[0]
                if stem:
                    self._named[stem].append(path)

    def has(self, name: str) -> bool:
        """Whether there are files that a name may mean."""
        return bool(self._parts_of(name) and self._named.get(self._parts_of(name)[-1].casefold()))

    @staticmethod
    def _parts_of(name):
        return [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]

    def find(self, name: str, split: str | None = None) -> tuple[str | None, str]:
        """The file, or None and the reason.

        Args:
            split: The row's split, which decides between files of one name in folders of splits.
        """
        parts = self._parts_of(name)
        if not parts:
            return None, "no file name"
        path = os.path.join(*parts)
        if path in self.paths:
            return path, ""
        found = sorted(set(self._named.get(parts[-1].casefold(), ())))
        if not found:
            return None, "listed, but there is no such file"
        scores = {file: self._likeness(file, parts, split) for file in found}
        best = max(scores.values())
        alike = [file for file in found if scores[file] == best]
        if len(alike) > 1:
            return None, f"fits {len(alike)} files: {', '.join(alike[:3])}"
        return alike[0], ""

    def _likeness(self, file, parts, split):
        """How many folders agree, counted from the file; then whether the spelling and the folder's split do."""
        own = file.split(os.sep)
        same = 0
        for mine, theirs in zip(reversed(own[:-1]), reversed(parts[:-1]), strict=False):
            if mine != theirs:
                break
            same += 1
        splits = {folder_layout.split_of(part) for part in own[:-1]}
        return same, split in splits if split else False, own[-1] == parts[-1]


# Columns.


def _require(path, names, field_name, given):
    if given not in names:
        raise InputError(f"{flag(field_name)} {given}: {path} has the columns {', '.join(names)}.")


def _file_column(path, images, names, rows, index, given):
    if given is not None:
        _require(path, names, "file_column", given)
        return given
    tried = rows[:TRIED]
    shares = {name: sum(index.has(row[name]) for row in tried) / len(tried) for name in names}
    best = max(shares.values())
    if best == 0:
        raise InputError(
            f"{path}: no column names files in {images}; the columns are {', '.join(names)}, and the first row has "
            f"{rows[0][names[0]]!r}. Pass --file-column NAME, or --labels-csv with --data, the folder of the images."
        )
    found = [name for name in names if shares[name] > 0.9 * best]
    named = [name for name in found if _plain(name) in FILES]
    return (named or found)[0]


def _split_column(path, names, rows, given, file_column):
    if given is not None:
        _require(path, names, "split_column", given)
        return given
    for name in names:
        if name != file_column and _plain(name) in SPLITS:
            words = {row[name] for row in rows}
            unknown = sorted(word for word in words if folder_layout.split_of(word) is None)
            if unknown and len(unknown) < len(words):
                raise InputError(
                    f"{path}: the column {name!r} has {unknown[0]!r} beside splits. Splits are train, val and test; "
                    "rename the value, or the column if it has no splits."
                )
            if not unknown:
                return name
    return None


def _label_columns(path, names, rows, given, known):
    if given:
        for name in given:
            _require(path, names, "label_column", name)
        return list(given)
    left = [name for name in names if name not in known]
    named = [name for name in left if _plain(name) in LABELS]
    if len(named) > 1:  # Such as a number and a name for the same thing.
        named = _same_labels(named, rows)
    if len(named) == 1:
        return named
    if len(left) == 1:
        return left
    marks = [name for name in left if _is_mark(name, rows)]
    one_each = all(sum(_number(row[name]) or 0 for name in marks) == 1 for row in rows)
    # Beside other columns they may as well be something else that is known of the images.
    if not named and len(marks) > 1 and (one_each or len(marks) == len(left)):
        return marks
    raise InputError(
        f"{path}: it is not clear which column has the labels; beside the file names there are "
        f"{', '.join(left) or 'none'}. Pass --label-column NAME, or several names, one for each class."
    )


def _same_labels(named, rows):
    """One of some columns that say the same, the one with words; else all of them."""
    for name in named[1:]:
        pairs = {(row[named[0]], row[name]) for row in rows}
        if not len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs}):
            return named
    words = [name for name in named if not all(_number(row[name]) is not None for row in rows)]
    return (words or named)[:1]


def _is_mark(name, rows):
    """Whether a column has only 0 and 1, and both."""
    return {_number(row[name]) for row in rows} == {0, 1}


def _number(text):
    try:
        return float(text)
    except ValueError:
        return None


def _plain(name):
    return re.sub(r"[^a-z_]", "", name.lower().replace(" ", "_").replace("-", "_"))


def _has_several(path, columns, labels, given):
    """Whether columns of 0 and 1 are several labels an image, and not a class each.

    Raises:
        InputError: If it is not clear: nearly all rows have one label, or they have, but for one column.
    """
    if given.separator is not None:
        return given.separator != ""
    others = [label for label in labels if len(label) != 1]
    if not others:
        return False
    flag_name, choice = flag("label_separator"), "'|' if an image can have several labels or none, or '' if it has one"
    if given.label is None:
        for column in columns:
            rest = [len(label) - (column in label) for label in labels]
            if len(columns) > 2 and rest.count(1) == len(rest):
                rest_names = ", ".join(name for name in columns if name != column)
                raise InputError(
                    f"{path}: each image has one of {rest_names}, and {column} beside it. Pass {flag('label_column')} "
                    "with the columns that are labels."
                )
    if len(others) > MOST_SET_ASIDE * len(labels) and max(map(len, labels)) > 1:
        return True
    if max(map(len, labels)) < 2 and len(others) <= MOST_SET_ASIDE * len(labels):
        return False
    raise InputError(
        f"{path}: {len(others):,} of {len(labels):,} images have no label or several, the others one. Pass {flag_name} "
        f"{choice}; then these are left out."
    )


def _separator(path, rows, columns, given):
    """What stands between the labels of an image with several; None where a cell is one label.

    A class may have a comma or a space in its name. So the parts must be labels of other images too; a bar is never in
    a name.
    """
    if len(columns) > 1:
        return None
    if given is not None:
        return given or None
    whole = {" ".join(row[columns[0]].split()) for row in rows} - {""}
    for separator in SEPARATORS:
        split = {label: _parts(label, separator) for label in whole}
        several = [label for label, parts in split.items() if len(parts) > 1]
        if not several:
            continue
        names = {name for parts in split.values() for name in parts}
        if separator == "|" or (separator != " " and whole.issuperset(names)):
            return separator
        # Words of one name: seldom are they labels of their own, or much fewer than the names.
        spaced = (whole & names and len(names) <= len(whole)) or 2 * len(names) < len(whole)
        if spaced if separator == " " else len(names) < len(whole):
            given = flag("label_separator")
            raise InputError(
                f"{path}: it is not clear whether {min(several)!r} is one label or several. Pass {given} {separator!r} "
                f"if it is several, or {given} '' if it is one."
            )
    return None


def _parts(label, separator):
    return [name for name in (" ".join(part.split()) for part in label.split(separator)) if name]


def _labels(row, columns, separator):
    """A row's labels, and what is wrong with them."""
    if len(columns) == 1:
        label = " ".join(row[columns[0]].split())  # Names of classes are lines of a file.
        labels = [label] * bool(label) if separator is None else _parts(label, separator)
        return tuple(dict.fromkeys(labels)), "" if labels or separator is not None else "no label"
    marks = {name: _number(row[name]) for name in columns}
    if not set(marks.values()) <= {0, 1}:
        return (), f"{', '.join(columns)} must be 0 or 1"
    return tuple(name for name, value in marks.items() if value), ""


def _several_note(labels, separator):
    counts = [len(label) for label in labels]
    without = f", {counts.count(0):,} none" if 0 in counts else ""
    between = "" if separator is None else f" between which is {separator!r}"
    return (
        f"Images can have several labels{between}: {sum(count > 1 for count in counts):,} of {len(counts):,} have two "
        f"or more{without}."
    )


def _described(path, file_column, label_columns, split_column, group_column):
    labels = label_columns[0] if len(label_columns) == 1 else f"{len(label_columns)} columns with 0 and 1"
    parts = [f"files from {file_column!r}", f"labels from {labels!r}" if len(label_columns) == 1 else labels]
    parts += [f"splits from {split_column!r}"] * bool(split_column)
    parts += [f"groups from {group_column!r}"] * bool(group_column)
    return f"the table {path.name}: {', '.join(parts)}"


def _notes(names, known):
    """What the table has and was not used."""
    groups = [name for name in names if name not in known and GROUPS.search(_plain(name))]
    if groups:
        yield (
            f"The column {groups[0]!r} may say which images belong together: --group-by {groups[0]} keeps them in one "
            "split."
        )


def ordered_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """The different labels, in order; numbers by their size."""
    found = set(labels)
    if all(re.fullmatch(r"-?\d+(\.\d+)?", label) for label in found):
        return tuple(sorted(found, key=lambda label: (float(label), label)))
    return tuple(sorted(found))
