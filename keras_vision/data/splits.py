"""Three splits of uint8 images with integer labels, as every source of data returns them, and their checks."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from keras_vision.data.data_report import DataReport
from keras_vision.data.draws import validation_generator
from keras_vision.data.rows import Rows, select
from keras_vision.recipe import InputError


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 array, or `Rows` on disk, shape `(N, H, W, C)`, or `(N, D, H, W, C)` for volumes.
        labels: int64 array, shape `(N,)`; where an image can have several labels, shape `(N, K)`, 1 for those it has.
    """

    images: np.ndarray | Rows
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def strata(self) -> np.ndarray:
        """The class of each image by which it is divided, shape `(N,)`.

        Of several labels it is the one that is rarest in the split, so that rare ones reach every part; K for none.
        """
        if self.labels.ndim == 1:
            return self.labels
        rarest = np.argsort(self.labels.sum(axis=0), kind="stable")
        ordered = self.labels[:, rarest]
        return np.where(ordered.any(axis=1), rarest[ordered.argmax(axis=1)], len(rarest))

    def spread(self, count: int) -> "Split":
        """At most `count` of the images, evenly spread over the split."""
        rows = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        return Split(select(self.images, rows), self.labels[rows])


@dataclass(frozen=True)
class Source:
    """Origin of a data set, printable in a report.

    Attributes:
        name: Name of the data set, to be stated with metrics on it.
        description: One sentence for the report.
        licence: Licence of the images, or "unknown".
        files: `{name: SHA-256}` of the files that were read; empty for synthetic data.
        resize: How to bring an image to these images' size, see `image_files.fit`.
        intensity_range: Values of the files that are 0 and 255 in the images; None for the range of their bits.
    """

    name: str
    description: str
    licence: str
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    resize: str = "stretch"
    intensity_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Fold:
    """The part of the data that a run of cross-validation holds out: its test split.

    Attributes:
        number: Which part, from 1.
        count: Number of parts.
        rows: Int array, shape `(N,)`: the test split's images, as numbers among all that are divided.
        images: How many images are divided.
        unused: Images of the data's own test split, which no fold uses.
    """

    number: int
    count: int
    rows: np.ndarray
    images: int
    unused: int

    def sentence(self) -> str:
        """What the run's test split is."""
        own = f" The data's own test split, {self.unused:,} images, is not used." if self.unused else ""
        return (
            f"The test split of this run is fold {self.number} of {self.count}: {len(self.rows):,} of {self.images:,} "
            f"images, which neither the training nor a choice used.{own}"
        )

    def to_dict(self) -> dict[str, int]:
        """JSON-ready numbers."""
        return {"number": self.number, "count": self.count, "images": self.images, "unused": self.unused}


@dataclass(frozen=True)
class Splits:
    """Train, validation and test split of one data set, and the findings about it, if any.

    Attributes:
        ordered: Whether the classes are grades, labelled from the lowest to the highest.
        own_test: Whether the data came with its test split, instead of one taken from its other images.
        fold: Which part of cross-validation the test split is; None where it is the data's.
    """

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    source: Source
    report: DataReport | None = None
    ordered: bool = False
    own_test: bool = True
    fold: Fold | None = None

    def named(self) -> dict[str, Split]:
        """The splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image: `(H, W, C)` or `(D, H, W, C)`."""
        return tuple(self.train.images.shape[1:])

    @property
    def several_labels(self) -> bool:
        """Whether an image can have several labels, or none."""
        return self.train.labels.ndim == 2

    def counts(self) -> dict[str, list[int]]:
        """Images per split and class: `{"train": [n0, n1, ...], ...}`."""
        if self.several_labels:
            return {name: split.labels.sum(axis=0).tolist() for name, split in self.named().items()}
        return {
            name: np.bincount(split.labels, minlength=self.num_classes).tolist() for name, split in self.named().items()
        }

    def positive_label(self, name: str | None = None) -> int:
        """Label of the positive class of two: the named one, else the rarer in train.

        Raises:
            InputError: If there is a name, but not two classes or no class of that name.
        """
        if name is None:
            return int(np.argmin(self.counts()["train"]))
        if self.several_labels:
            raise InputError(
                "--positive-class names one of two classes; images of this data can have several labels. "
                f"Received: {name!r}."
            )
        if self.num_classes != 2 or name not in self.class_names:
            raise InputError(
                "--positive-class names one of two classes; this data has the classes "
                f"{', '.join(map(repr, self.class_names))}. Received: {name!r}."
            )
        return self.class_names.index(name)

    def in_order(self, names: tuple[str, ...]) -> "Splits":
        """The same splits with the classes labelled in the order of these names, as grades.

        Raises:
            InputError: If the names are not those of all classes.
        """
        if self.several_labels:
            raise InputError("--ordered-classes is for grades, of which an image has one; here it can have several.")
        if sorted(names) != sorted(self.class_names):
            raise InputError(
                "--ordered-classes takes the names of all classes, from the lowest grade to the highest; this data has "
                f"the classes {', '.join(map(repr, self.class_names))}. Received: {', '.join(map(repr, names))}."
            )
        place = np.array([names.index(name) for name in self.class_names])
        splits = {name: Split(split.images, place[split.labels]) for name, split in self.named().items()}
        return dataclasses.replace(self, **splits, class_names=names, ordered=True)

    def limited(self, limit: int | None) -> "Splits":
        """The same splits with at most `limit` images each, classes in proportion, at least one image of each.

        These are the first images of each class, so the choice needs no seed.
        """
        return dataclasses.replace(self, **{name: _first(split, limit) for name, split in self.named().items()})


def _first(split, limit):
    if limit is None or len(split) <= limit:
        return split
    kept, strata = [], split.strata
    for label, count in zip(*np.unique(strata, return_counts=True), strict=True):
        share = max(1, round(limit * count / len(split)))
        kept.append(np.flatnonzero(strata == label)[:share])
    if split.labels.ndim == 2:  # A label may only be beside rarer ones, of which few are kept.
        there = split.labels[np.concatenate(kept)].any(axis=0)
        kept += [rows[:1] for label in np.flatnonzero(~there) for rows in [np.flatnonzero(split.labels[:, label])]]
    index = np.unique(np.concatenate(kept))
    return Split(select(split.images, index), split.labels[index])


def take_validation(split: Split, share: float, seed: int, where: str) -> tuple[Split, Split]:
    """Divides a split into training and validation, each class in proportion.

    The images are not copied: those for validation are swapped to the end, and both splits are views. At least one
    image of each class stays in training.

    Args:
        split: Arrays, not `Rows`; they are reordered in place.
        share: Share of each class that goes to validation.
        seed: Decides which images go.
        where: Name of the file or data set, for the message.

    Returns:
        The training and the validation split.

    Raises:
        InputError: If images and labels differ in number.
    """
    _check_count("train", split, where)
    rng = validation_generator(seed)
    chosen, strata = np.zeros(len(split), bool), split.strata
    for label, count in zip(*np.unique(strata, return_counts=True), strict=True):
        taken = min(count - 1, max(1, round(share * count)))
        chosen[rng.permutation(np.flatnonzero(strata == label))[:taken]] = True
    end = len(split) - np.count_nonzero(chosen)
    goes, stays = np.flatnonzero(chosen[:end]), end + np.flatnonzero(~chosen[end:])
    for array in (cast(np.ndarray, split.images), split.labels):
        array[goes], array[stays] = array[stays], array[goes]
    return Split(split.images[:end], split.labels[:end]), Split(split.images[end:], split.labels[end:])


def _check_count(name, split, where):
    if len(split.images) != len(split.labels):
        raise InputError(
            f"{where}: every image needs one label, but {name} has {len(split.images)} images "
            f"and {len(split.labels)} labels."
        )


def check_splits(splits: Splits, where: str) -> None:
    """Refuses data that no network can be trained on, before any work is done on it.

    Args:
        where: Name of the file or data set, for the message.

    Raises:
        InputError: If a split is empty, its images and labels differ in number, its image shape differs from the other
            splits', a label is not a class, or a class has no image in train.
    """
    for name, split in splits.named().items():
        _check_count(name, split, where)
        if len(split) == 0:
            raise InputError(f"{where}: the split {name} is empty; each of train, val and test needs images.")
        if split.images.shape[1:] != splits.train.images.shape[1:]:
            raise InputError(
                f"{where}: all splits need images of one shape, but train has {splits.image_shape} "
                f"and {name} {tuple(split.images.shape[1:])}."
            )
        low, high = int(split.labels.min()), int(split.labels.max())
        if split.labels.shape[1:] != splits.train.labels.shape[1:]:
            raise InputError(f"{where}: train and {name} have another number of labels an image.")
        if splits.several_labels and not ({low, high} <= {0, 1} and split.labels.shape[1] == splits.num_classes):
            raise InputError(
                f"{where}: of several labels an image each must be 0 or 1, and there must be one for each of the "
                f"{splits.num_classes} classes. Received in {name}: {split.labels.shape[1]} from {low} to {high}."
            )
        if low < 0 or high >= splits.num_classes:
            raise InputError(
                f"{where}: labels must lie between 0 and {splits.num_classes - 1} ({splits.num_classes} classes), "
                f"but {name} has labels from {low} to {high}."
            )
    if splits.num_classes < 2:
        raise InputError(f"{where}: a classifier needs at least 2 classes; there is 1.")
    empty = [splits.class_names[label] for label, count in enumerate(splits.counts()["train"]) if count == 0]
    if empty:
        shown = ", ".join(map(repr, empty[:5])) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        raise InputError(f"{where}: no image in train shows {shown}; every class needs at least one.")
    if splits.several_labels and splits.train.labels.min(axis=0).any():
        name = splits.class_names[int(splits.train.labels.min(axis=0).argmax())]
        raise InputError(f"{where}: every image in train has the label {name!r}, so nothing can be learned of it.")


def file_sha256(path: Path | str) -> str:
    """SHA-256 of a file, as lower-case hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
