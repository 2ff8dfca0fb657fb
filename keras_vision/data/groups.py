"""Images that belong together: frames of a patient, views of a plant. None may stand in two splits.

Neighbouring frames are nearly the same image, so a network that has seen one knows the label of the others, and the
metrics on them say nothing about a new patient.
"""

import collections
import os
import re
import warnings
from collections.abc import Sequence

import numpy as np

from keras_vision.recipe import InputError

LEAST_SERIES = 5  # Fewer beginnings of names say nothing.


def of_names(pattern: str, files: Sequence[str]) -> list[str]:
    """The group of each file by a pattern on its path.

    Args:
        pattern: A regular expression that is searched for; its first group, or else the whole match, is the name.
        files: Paths with `/`, relative to the folder of the images.

    Raises:
        InputError: If the pattern is none, or does not match a file.
    """
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"--group-by {pattern} is neither a column of a table nor a pattern: {error}.") from error
    found = [expression.search(file) for file in files]
    left = [file for file, match in zip(files, found, strict=True) if match is None]
    if left:
        raise InputError(
            f"--group-by {pattern} does not match {len(left):,} of {len(files):,} file names, such as {left[0]}."
        )
    groups = [match[1] if expression.groups else match[0] for match in found if match]
    if None in groups:
        raise InputError(f"--group-by {pattern} has an empty group for {files[groups.index(None)]}.")
    return [str(group) for group in groups]


def divide(labels: np.ndarray, groups: Sequence[str], share: float, seed: int, where: str) -> np.ndarray:
    """Chooses groups for a new split, so that classes stay as even as whole groups allow.

    Args:
        labels: Int array, shape `(N,)`.
        groups: The group of each image.
        share: Share of the images to choose.
        seed: Decides which groups.
        where: Name of the data, for messages.

    Returns:
        Bool array, shape `(N,)`, true for the chosen.

    Raises:
        InputError: If a class would have no image left, or there are fewer than two groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names, members = np.unique(np.asarray(groups, str), return_inverse=True)
    if len(names) < 2:
        raise InputError(f"{where}: all images of train are of one group, {str(names[0])!r}, so no split can be taken.")
    # Scikit-learn divides into equal parts; a share is as many of these parts as come closest to it.
    count = min(len(names), max(2, round(1 / min(share, 1 - share))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A class with fewer images than parts is no mistake here.
        parts = _parts(StratifiedGroupKFold(count, shuffle=True, random_state=seed), labels, members, count)
    wanted = max(1, min(count - 1, round(share * count)))
    chosen = np.zeros(len(labels), bool)
    classes = np.unique(labels)
    for part in sorted(parts, key=lambda part: _unevenness(labels, part, 1 / count))[:wanted]:
        chosen[part] = True
    lost = sorted(set(classes) - set(labels[~chosen]))
    if lost:
        # Groups that alone have a class stay in training.
        for label in lost:
            group = members[np.flatnonzero(labels == label)[0]]
            chosen[members == group] = False
    if not chosen.any():
        raise InputError(f"{where}: its {len(names)} groups are too few to give each class a share of {share:g}.")
    return chosen


def _parts(folds, labels, members, count):
    # It asks for as many images of some class as there are parts.
    most = int(np.bincount(np.unique(labels, return_inverse=True)[1]).max())
    folds.n_splits = min(count, most)
    return [part for _, part in folds.split(np.zeros(len(labels)), labels, members) if len(part)]


def _unevenness(labels, part, share):
    """How far the share of each class in a part is from what it should be, summed over classes."""
    classes, all_images = np.unique(labels, return_counts=True)
    own = np.array([np.count_nonzero(labels[part] == label) for label in classes])
    return float(np.abs(own / all_images - share).sum())


def shared(groups: dict[str, Sequence[str]]) -> list[str]:
    """Groups that stand in more than one split."""
    found: collections.Counter = collections.Counter()
    for names in groups.values():
        found.update(set(names))
    return sorted(name for name, count in found.items() if count > 1)


def series(files: dict[str, Sequence[str]]) -> str | None:
    """What numbered names, such as `P07_1.png` and `P07_2.png`, say about images that belong together; or None.

    Args:
        files: Names of the files of each split.
    """
    splits: dict[str, dict[str, list[str]]] = {}
    total = 0
    for split, names in files.items():
        for name in names:
            total += 1
            if beginning := _beginning(name):
                splits.setdefault(beginning, {}).setdefault(split, []).append(name)
    several = {name: found for name, found in splits.items() if sum(map(len, found.values())) > 1}
    torn = [found for found in several.values() if len(found) > 1]
    covered = sum(len(names) for found in several.values() for names in found.values())
    if len(several) < LEAST_SERIES or covered < total / 2 or not torn:
        return None
    (first, one), (second, other) = [(split, os.path.basename(names[0])) for split, names in torn[0].items()][:2]
    return (
        f"{covered:,} of {total:,} file names look like {len(several):,} numbered series, and {len(torn):,} of them "
        f"are in two splits, such as {one} ({first}) and {other} ({second}). If these belong together, as frames of "
        r"one patient do, the metrics are too good: --group-by '([^/]+)[_-]\d+\.' keeps each series in one split."
    )


def _beginning(name):
    """What stands before a name's last number, if that has a digit and so numbers something itself; else None."""
    match = re.fullmatch(r"(.*\d.*?)[ _\-.(]+[a-zA-Z]{0,5}\d{1,4}\)?", os.path.splitext(os.path.basename(name))[0])
    return match[1] if match else None
