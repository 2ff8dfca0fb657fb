"""What every source of data gives: three splits of uint8 images with integer labels, checked once."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_vision.data.data_report import DataReport
from keras_vision.data.draws import validation_generator
from keras_vision.data.rows import Rows, select
from keras_vision.recipe import InputError


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: uint8 array or `Rows` on disk, shape `(N, H, W, C)`, or `(N, D, H, W, C)` for volumes.
        labels: int64 array, shape `(N,)`.
    """

    images: np.ndarray | Rows
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def spread(self, count):
        """At most `count` of the images, evenly spread over the split."""
        rows = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)
        return Split(select(self.images, rows), self.labels[rows])


@dataclass(frozen=True)
class Source:
    """Where a data set came from, in words that a report can print.

    Attributes:
        name: Name of the data set, as figures on it must call it.
        description: One sentence for the report.
        licence: Licence of the images, or "unknown".
        files: `{name: SHA-256}` of the files that were read; empty for synthetic data.
        resize: How a picture has to be brought to the size of these, see `image_files.fit`.
    """

    name: str
    description: str
    licence: str
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    resize: str = "stretch"


@dataclass(frozen=True)
class Splits:
    """Train, validation and test split of one data set, and what was found in it, if anybody looked."""

    train: Split
    val: Split
    test: Split
    class_names: tuple[str, ...]
    source: Source
    report: DataReport | None = None

    def named(self):
        """The splits by name, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def image_shape(self):
        """Shape of one image: `(H, W, C)` or `(D, H, W, C)`."""
        return tuple(self.train.images.shape[1:])

    def counts(self):
        """Images per split and class: `{"train": [n0, n1, ...], ...}`."""
        return {
            name: np.bincount(split.labels, minlength=self.num_classes).tolist() for name, split in self.named().items()
        }

    def positive_label(self, name=None):
        """Label of the class that a two-class network is to find: the named one, else the rarer in train.

        Raises:
            InputError: If a class is named that is not one of two.
        """
        if name is None:
            return int(np.argmin(self.counts()["train"]))
        if self.num_classes != 2 or name not in self.class_names:
            raise InputError(
                "--positive-class names one of two classes; those of this data are "
                f"{', '.join(map(repr, self.class_names))}. Received: {name!r}."
            )
        return self.class_names.index(name)

    def limited(self, limit):
        """The same splits with at most `limit` images each, classes kept in proportion, at least one of each.

        The images kept are the first of each class, so that the choice needs no seed.
        """
        return dataclasses.replace(self, **{name: _first(split, limit) for name, split in self.named().items()})


def _first(split, limit):
    if limit is None or len(split) <= limit:
        return split
    kept = []
    for label, count in zip(*np.unique(split.labels, return_counts=True), strict=True):
        share = max(1, round(limit * count / len(split)))
        kept.append(np.flatnonzero(split.labels == label)[:share])
    index = np.sort(np.concatenate(kept))
    return Split(select(split.images, index), split.labels[index])


def take_validation(split, share, seed, where):
    """Parts a split into one to train on and one to choose by, each class in proportion.

    The images are not copied: those for validation change places with others until they stand at the end, and both
    splits are views. At least one image of each class stays in train.

    Args:
        split: A `Split` whose arrays may be reordered in place.
        share: Share of each class that goes to validation.
        seed: Decides which images go.
        where: Name of the file or data set, for the message.

    Returns:
        Two `Split`s, for training and for validation.

    Raises:
        InputError: If images and labels differ in number.
    """
    _check_count("train", split, where)
    rng = validation_generator(seed)
    chosen = np.zeros(len(split), bool)
    for label, count in zip(*np.unique(split.labels, return_counts=True), strict=True):
        taken = min(count - 1, max(1, round(share * count)))
        chosen[rng.permutation(np.flatnonzero(split.labels == label))[:taken]] = True
    end = len(split) - np.count_nonzero(chosen)
    goes, stays = np.flatnonzero(chosen[:end]), end + np.flatnonzero(~chosen[end:])
    for array in (split.images, split.labels):
        array[goes], array[stays] = array[stays], array[goes]
    return tuple(Split(split.images[part], split.labels[part]) for part in (slice(end), slice(end, None)))


def _check_count(name, split, where):
    if len(split.images) != len(split.labels):
        raise InputError(
            f"{where}: every image needs one label, but {name} has {len(split.images)} images "
            f"and {len(split.labels)} labels."
        )


def check_splits(splits, where):
    """Refuses data that no network can learn from, before any work is done on it.

    Args:
        where: Name of the file or data set, for the message.

    Raises:
        InputError: If a split is empty, its images and labels differ in number, its shape is not the other splits',
            a label is no class, or a class has no image in train.
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
        raise InputError(f"{where}: no image in train shows {shown}; every class needs some.")


def file_sha256(path):
    """SHA-256 of a file, as lower-case hexadecimal text."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
