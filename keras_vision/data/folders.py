"""Image files with labels: from a folder of class folders, perhaps in split folders, or from a table."""

import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_vision.data import folder_layout, groups, label_table, split_file
from keras_vision.data.data_report import MOST_SET_ASIDE, DataReport
from keras_vision.data.picture_cache import cached
from keras_vision.data.splits import Source, Split, Splits, check_splits, take_validation
from keras_vision.files import dicom, image_files, image_kinds, pixel_values
from keras_vision.recipe import DataSpec, InputError


@dataclass(frozen=True)
class Listing:
    """Labelled files.

    Attributes:
        files: Object array, paths relative to the folder.
        labels: Int array, shape `(N,)`, or `(N, K)` of 0 and 1 where an image can have several.
        class_names: As on disk, which may contain bytes that are not text.
        splits: Object array of `train`, `val`, `test`, or `all` where there are none.
        described: Where labels and splits come from, in a few words.
        groups: Object array; None where they are not known.
        notes: Sentences about what a user may not expect.
        set_aside: `{name: reason}`.
        digests: `{file: SHA-256}` that is expected; empty where nothing is.
    """

    files: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    splits: np.ndarray
    described: str
    groups: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    set_aside: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)


def load(root: Path | str, spec: DataSpec, seed: int = 0) -> Splits:
    """The splits of a folder, memory-mapped.

    Args:
        root: The folder, or a table whose folder has the images.
        spec: Size, colour, resizing, shares, limit, strictness; where classes, splits and groups are found.
        seed: Decides which images go to the splits that the folder does not have.

    Returns:
        `Splits` whose images are `Rows` of a cache, and whose report lists the files that were set aside.

    Raises:
        InputError: If it is not clear what the folder or table means, more than 5 % of its images cannot be used, or a
            class has none left.
    """
    root, listing = listed(Path(root), spec)
    rows, done = _splits(root, listing, spec, seed)
    description = f"The folder {root.resolve().name}, {listing.described}{done}"
    parts = {split: Split(listing.files[index], listing.labels[index]) for split, index in rows.items()}
    files = Splits(parts["train"], parts["val"], parts["test"], _texts(listing.class_names), Source("", "", ""))
    check_splits(files, str(root))  # Before gigabytes are decoded.
    files = files.limited(spec.images_at_most(math.prod(image_shape(listing, spec))))
    return _decoded(root, files, spec, description, listing)


def listed(root: Path, spec: DataSpec) -> tuple[Path, Listing]:
    """The labelled files of a folder or table, before any is read, and the folder that they are in.

    Raises:
        InputError: As `load`.
    """
    table = spec.labels_path
    if table is not None and not table.exists() and (root / table).exists():
        table = root / table  # Beside the images, which is where a message names it.
    if label_table.is_table(root):
        root, table = root.parent, root
    if _texts([str(root.resolve())]) != (str(root.resolve()),):
        raise InputError(f"The name {_texts([str(root)])[0]} contains bytes that are not text. Rename the folder.")
    listing = _of_folder(root, spec) if table is None else _of_table(root, table, spec)
    if spec.splits_path is not None:
        listing = split_file.applied(listing, spec.splits_path)
    return root, _grouped(listing, spec)


def _of_folder(root, spec):
    """Files whose class, and perhaps split, is a folder."""
    for name in ("file_column", "label_column", "label_separator", "split_column"):
        if getattr(spec, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} goes with --labels-csv, or a table as --data.")
    layout = folder_layout.read(root, spec.classes_at)
    class_names = tuple(sorted({name for classes in layout.splits.values() for name in classes}))
    numbers = {name: number for number, name in enumerate(class_names)}
    rows = [
        (file, numbers[name], split)
        for split, classes in layout.splits.items()
        for name, files in classes.items()
        for file in files
    ]
    files, labels, splits = (np.array([row[place] for row in rows], object) for place in range(3))
    return Listing(files, labels.astype(np.int64), class_names, splits, layout.described, notes=layout.notes)


def _of_table(root, path, spec):
    """Files whose class, and perhaps split and group, is in a table."""
    if spec.classes_at is not None:
        raise InputError("--classes-at says where class folders are; with a table there are none.")
    columns = label_table.Columns(
        spec.file_column, spec.label_column, spec.label_separator, spec.split_column, spec.group_by
    )
    table = label_table.read(path, root, columns)
    count, bad, notes = len(table.files), table.set_aside, table.notes
    numbers = {name: number for number, name in enumerate(table.class_names)}
    if table.several:
        labels = np.zeros((count, len(numbers)), np.int64)
        for row, names in enumerate(table.labels):
            labels[row, [numbers[name] for name in names]] = 1
    else:
        labels = np.array([numbers[name] for (name,) in table.labels], np.int64)
    if len(bad) > MOST_SET_ASIDE * (len(bad) + count):
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(bad.items())[:5])
        raise InputError(
            f"{path}: {len(bad):,} of {len(bad) + count:,} rows cannot be used, more than "
            f"{100 * MOST_SET_ASIDE:g} %. The first: {shown}."
        )
    if table.unlisted:
        notes += (f"{len(table.unlisted):,} images have no row in {path.name}, such as {table.unlisted[0]}.",)
    return Listing(
        np.array(table.files, object),
        labels,
        table.class_names,
        np.array(table.splits or ["all"] * count, object),
        table.described,
        np.array(table.groups, object) if table.groups else None,
        notes,
        table.set_aside,
    )


def _grouped(listing, spec):
    """The listing with the groups that a pattern on file names gives."""
    if spec.group_by is None or listing.groups is not None:
        return listing
    paths = [Path(name).as_posix() for name in _texts(listing.files)]
    found = np.array(groups.of_names(spec.group_by, paths), object)
    return dataclasses.replace(listing, groups=found)


def _splits(root, listing, spec, seed):
    """Rows of train, val and test, the missing ones taken from the others; and a description of that."""
    rows = {split: np.flatnonzero(listing.splits == split) for split in ("all", "train", "val", "test")}
    rows = {split: index for split, index in rows.items() if len(index) or split in listing.splits}
    done = "; "
    if "all" in rows:
        rows = {"train": rows["all"]}
        whole = "all"
    else:
        whole = "train"
        if "train" not in rows:
            raise InputError(f"{root}: {listing.described} has no images for train.")
        if "test" not in rows and "val" in rows:
            # Choices are made on the validation split, so the images provided for testing must not be it.
            rows = {"train": rows["train"], "test": rows["val"]}
            done = "; its val is the test split here; "
    for name, share in (("test", spec.test_share), ("val", spec.val_share)):
        if name not in rows:
            rows["train"], rows[name] = _divided(root, listing, rows["train"], share, seed)
            each = "" if listing.groups is not None else "each class of "
            done += f"{name}: {100 * share:g} % of {each}{whole if name == 'test' else 'train'}, "
            done += f"{'in whole groups, ' * (not each)}chosen with seed {seed}; "
    return rows, done.removesuffix("; ")


def _divided(root, listing, rows, share, seed):
    if listing.groups is not None:
        chosen = groups.divide(Split(rows, listing.labels[rows]).strata, listing.groups[rows], share, seed, str(root))
        return rows[~chosen], rows[chosen]
    rows = rows.copy()  # They are reordered in place.
    train, taken = take_validation(Split(rows, listing.labels[rows]), share, seed, str(root))
    return np.asarray(train.images), np.asarray(taken.images)


def image_shape(listing: Listing, spec: DataSpec) -> tuple[int, ...]:
    """Of what the files become: volumes if most of those that are meant as images are NIfTI files."""
    kinds = [kind for kind in map(image_kinds.by_name, listing.files) if kind is not None]
    if kinds.count(image_kinds.NIFTI) > len(kinds) / 2:
        return (spec.size, spec.size, spec.size, 1)
    return (spec.size, spec.size, 3 if spec.color == "rgb" else 1)


def _decoded(root, files, spec, description, listing):
    names = sorted(name for split in files.named().values() for name in split.images)
    shape = image_shape(listing, spec)
    cache = cached(root, names, shape, spec.resize, strict=spec.strict, intensity_range=spec.intensity_range)
    _check_set_aside(root, cache)
    rows = {name: row for row, name in enumerate(cache.names)}
    group_of = {} if listing.groups is None else dict(zip(listing.files, listing.groups, strict=True))
    splits: dict[str, Split] = {}
    found: dict[str, dict[str, np.ndarray]] = {"names": {}, "groups": {}, "digests": {}}
    for split, content in files.named().items():
        kept = np.array([name in rows for name in content.images], bool)
        _check_classes(root, split, files.class_names, content.labels, kept)
        kept_files = content.images[kept]
        index = [rows[name] for name in kept_files]
        splits[split] = Split(cache.rows(index), content.labels[kept])
        found["names"][split] = np.array(_texts(kept_files), object)
        found["digests"][split] = np.array([cache.digests[row] for row in index], object)
        if group_of:
            found["groups"][split] = np.array([group_of[name] for name in kept_files], object)
    name = root.resolve().name
    how = {"crop": "cropped", "pad": "padded", "stretch": "stretched"}[spec.resize]
    source = Source(
        name,
        f"{description}; {how} to {' x '.join(map(str, shape[:-1]))}, {'colour' if shape[-1] == 3 else 'gray'}"
        f"{pixel_values.scaling(spec.intensity_range)}",
        "unknown",
        {f"the {len(names):,} files of {name}": cache.sha256},
        spec.resize,
        spec.intensity_range,
    )
    report = DataReport(
        len(names) + len(listing.set_aside),
        _text_keys(listing.set_aside | cache.set_aside),
        _text_keys(cache.remarks),
        root=str(root.resolve()),
        names=found["names"],
        groups=found["groups"],
        digests=found["digests"],
        notes=(*listing.notes, *_volume_notes(shape, spec), *_changed(listing, cache)),
    )
    report = dataclasses.replace(report, notes=(*report.notes, *split_notes(report, volumes=len(shape) == 4)))
    own_test = "test" in listing.splits
    return Splits(splits["train"], splits["val"], splits["test"], files.class_names, source, report, own_test=own_test)


def _volume_notes(shape, spec):
    """How volumes became images."""
    if len(shape) == 3:
        return
    yield "Volumes are turned to RAS: slices from feet to head, the front at the top, the left side at the left."
    if spec.intensity_range is None:
        yield (
            "Each volume's least value is black and its largest white, so equal tissues may differ in brightness; "
            "--intensity-range LOW HIGH gives all volumes one scale, such as -1000 1000 for CT."
        )


def split_notes(report: DataReport, *, volumes: bool) -> list[str]:
    """What is in two splits: groups of images, and of volumes, whose content is not compared, equal files."""
    return [*(_copies(report) if volumes else []), *_group_notes(report)]


def _copies(report):
    twice = groups.shared({split: list(digests) for split, digests in report.digests.items()})
    if twice:
        names = [
            f"{name} ({split})"
            for split, digests in report.digests.items()
            for name in report.names[split][digests == twice[0]]
        ]
        yield f"{len(twice):,} files are in two splits, byte for byte, such as {' and '.join(names[:2])}."


def _group_notes(report):
    """What is known about images that belong together."""
    if not report.groups:
        note = groups.series(report.names)
        return [note] if note else []
    count = len({name for names in report.groups.values() for name in names})
    torn = groups.shared(report.groups)
    if not torn:
        return [f"{count:,} groups of images, none of them in two splits."]
    return [
        f"{len(torn):,} of {count:,} groups of images are in two splits, such as {torn[0]}: the metrics are too good. "
        "The data has its own splits; only a folder or table without splits is divided by groups."
    ]


def _changed(listing, cache):
    """Files whose content is not what a list of splits says."""
    changed = [
        name
        for name, digest in zip(cache.names, cache.digests, strict=True)
        if listing.digests.get(name, digest) != digest
    ]
    if not changed:
        return []
    return [f"{len(changed):,} images have changed since the splits were written, such as {_texts(changed)[0]}."]


def _check_set_aside(root, cache):
    """Stops if more than 5 % of the files that are meant as images cannot be read; other files do not count."""
    aside = _text_keys(cache.set_aside)
    # DICOM files often have a number as their name; lists of contents and reports are DICOM files, too.
    bad = [
        name
        for name, reason in aside.items()
        if (image_files.meant_as_image(name) or reason.startswith(image_kinds.DICOM.a_file))
        and reason != dicom.NO_IMAGE
    ]
    if len(bad) > MOST_SET_ASIDE * (len(bad) + len(cache.names)):
        shown = "; ".join(f"{name}: {aside[name]}" for name in _of_each_reason(bad, aside)[:5])
        raise InputError(
            f"{root}: {len(bad)} of {len(bad) + len(cache.names)} images cannot be read, more than "
            f"{100 * MOST_SET_ASIDE:g} %. Repair or remove them. The first: {shown}."
        )


def _of_each_reason(names, reasons):
    """The names, the first of each reason before all others, so that a few of them show every reason."""
    first = {reasons[name]: name for name in reversed(names)}
    return sorted(names, key=lambda name: first[reasons[name]] != name)


def _check_classes(root, split, class_names, labels, kept):
    def counts(rows):
        return rows.sum(axis=0) if rows.ndim == 2 else np.bincount(rows, minlength=len(class_names))

    for label in np.flatnonzero(counts(labels)):
        if not counts(labels[kept])[label]:
            raise InputError(f"{root}: no file of the class {class_names[label]!r} in {split} can be read.")


def _texts(names):
    """Printable names: those on disk may contain bytes that are not text."""
    return tuple(os.fsencode(name).decode("utf-8", "replace") for name in names)


def _text_keys(named):
    return dict(zip(_texts(named), named.values(), strict=True))
