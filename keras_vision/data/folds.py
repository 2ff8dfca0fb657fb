"""K-fold cross-validation: every image is held out in one of K runs, whole groups together, classes in proportion.

The held-out fold takes the place of the test split. Validation is a part of the other folds, so what is chosen by it,
such as the epoch whose weights are kept, has not seen the fold.
"""

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from keras_vision.data import folders, groups
from keras_vision.data.data_report import DataReport
from keras_vision.data.rows import joined, select
from keras_vision.data.splits import Fold, Split, Splits, take_validation
from keras_vision.recipe import InputError

KINDS = ("names", "groups", "digests")  # What a `DataReport` knows of each image.


def assign(strata: np.ndarray, count: int, seed: int, members: Sequence[str] | np.ndarray | None = None) -> np.ndarray:
    """The fold of each image, from 0; groups stay whole, and the strata are as even as that allows.

    Args:
        strata: Int array, shape `(N,)`: the class of each image by which it is divided.
        count: Number of folds.
        seed: Decides which images belong to a fold.
        members: The group of each image; None where every image is independent.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    numbers = None if members is None else np.unique(np.asarray(members, str), return_inverse=True)[1]
    kind = StratifiedKFold if numbers is None else StratifiedGroupKFold
    if np.bincount(np.unique(strata, return_inverse=True)[1]).max() < count:
        strata = np.zeros(len(strata), int)  # Scikit-learn refuses strata that are all smaller.
    folds = np.empty(len(strata), int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of several labels, the images without any may be fewer than the folds.
        parts = kind(count, shuffle=True, random_state=seed).split(np.zeros(len(strata)), strata, numbers)
        for number, (_, rows) in enumerate(parts):
            folds[rows] = number
    return folds


def held_out(splits: Splits, number: int, count: int, *, share: float, seed: int, where: str) -> Splits:
    """The splits of one fold: the fold as test, validation and training from the other folds.

    All images are divided but those of a test split that the data came with, which is left out.

    Args:
        splits: The data's splits.
        number: Which fold, from 1.
        count: Number of folds.
        share: Share of the images of the other folds that is used for validation.
        seed: Decides which images belong to a fold, and which are for validation.
        where: Name of the data, for messages.

    Raises:
        InputError: If there are too few images of a class, or too few groups.
    """
    images, known = _divided(splits)
    folds = _folds(splits.class_names, images, known["groups"], count, seed, where)
    rows = _rows(images, known["groups"], folds == number - 1, share, seed, where)
    pixels = joined([splits.named()[name].images for name in _names(splits)])
    parts = {name: Split(select(pixels, index), images.labels[index]) for name, index in rows.items()}
    unused = len(splits.test) if splits.own_test else 0
    of = f"its {len(images):,} {'train and val ' * splits.own_test}images"
    own = f"; its own test split of {unused:,} images is not used" if unused else ""
    described = (
        f"{splits.source.description}; fold {number} of {count} of {of} is the test split here, and val "
        f"{100 * share:g} % of the others, {'in whole groups, ' * (known['groups'] is not None)}chosen with seed "
        f"{seed}{own}"
    )
    return dataclasses.replace(
        splits,
        **parts,
        source=dataclasses.replace(splits.source, description=described),
        report=_report(splits, known, rows),
        fold=Fold(number, count, rows["test"], len(images), unused),
    )


def check(splits: Splits, count: int, *, share: float, seed: int, where: str) -> None:
    """Refuses a number of folds that the data has too few images or groups for; nothing is trained.

    Raises:
        InputError: As `held_out`, for any fold.
    """
    images, known = _divided(splits)
    folds = _folds(splits.class_names, images, known["groups"], count, seed, where)
    for number in range(count):
        _rows(images, known["groups"], folds == number, share, seed, where)


def _divided(splits):
    """The images that are divided, as numbers with labels, and what is known of each, None where nothing is."""
    names = _names(splits)
    labels = np.concatenate([splits.named()[name].labels for name in names])
    images = Split(np.arange(len(labels)), labels)
    report = splits.report or DataReport()
    known = {kind: getattr(report, kind) for kind in KINDS}
    return images, {
        kind: np.concatenate([values[name] for name in names]) if values else None for kind, values in known.items()
    }


def _names(splits):
    """The splits whose images are divided."""
    return ("train", "val") if splits.own_test else ("train", "val", "test")


def _folds(class_names, images, members, count, seed, where):
    several = images.labels.ndim == 2
    numbers = images.labels.sum(axis=0) if several else np.bincount(images.labels, minlength=len(class_names))
    least = int(np.argmin(numbers))
    if numbers[least] < count:
        raise InputError(
            f"--folds {count} is too many for {where}: class {class_names[least]!r} has only {numbers[least]} of the "
            f"{len(images):,} images that are divided, and each fold needs one."
        )
    if members is not None and (groups_there := len(set(members))) < count:
        raise InputError(
            f"--folds {count} is too many for {where}: its images are of only {groups_there} groups, which stay whole."
        )
    folds = assign(images.strata, count, seed, members)
    for number in range(count):
        inside, outside = images.labels[folds == number], images.labels[folds != number]
        if not len(inside):
            raise InputError(
                f"--folds {count} is too many for {where}: its groups are too large to fill that many folds."
            )
        left = outside.sum(axis=0) if several else np.bincount(outside, minlength=len(class_names))
        if not left.all():
            raise InputError(
                f"Cross-validation needs images of each class in two groups at least: in {where}, all those of "
                f"{class_names[int(np.argmin(left))]!r} are in one fold, so nothing could be trained on them."
            )
    return folds


def _rows(images, members, chosen, share, seed, where):
    """Rows of train, val and test, in the order of the data."""
    others = np.flatnonzero(~chosen)
    labels = images.labels[others]
    if members is None:
        parts = take_validation(Split(others.copy(), labels.copy()), share, seed, where)
        train, val = (np.sort(np.asarray(part.images)) for part in parts)
    else:
        taken = groups.divide(Split(others, labels).strata, members[others], share, seed, where)
        train, val = others[~taken], others[taken]
    if not len(val):
        raise InputError(f"{where} has too few images for folds: none is left for validation.")
    return {"train": train, "val": val, "test": np.flatnonzero(chosen)}


def _report(splits, known, rows):
    """The data's report, about these splits."""
    report = splits.report
    if report is None:
        return None
    volumes = len(splits.image_shape) == 4
    before = folders.split_notes(report, volumes=volumes)
    parts = {
        kind: {} if values is None else {name: values[index] for name, index in rows.items()}
        for kind, values in known.items()
    }
    report = dataclasses.replace(report, **parts, notes=tuple(note for note in report.notes if note not in before))
    return dataclasses.replace(report, notes=(*report.notes, *folders.split_notes(report, volumes=volumes)))
