"""Folders of synthetic images, written on demand, to try the code for folders without any data."""

import os
import tempfile
from pathlib import Path

import cv2

from keras_vision.data import folders, picture_cache, synthetic
from keras_vision.data.splits import Splits
from keras_vision.recipe import DataSpec, InputError

NAME = "synthetic-folders"


def load(spec: DataSpec, seed: int = 0) -> Splits:
    """The images of `synthetic.lesions` as JPEGs in class folders, written once next to the caches, and read back.

    Args:
        spec: As in `folders.load`.
        seed: Decides every image.

    Raises:
        InputError: If they cannot be written.
    """
    place = picture_cache.home() / f"drawn-{seed}-{spec.size}"
    try:
        if not os.path.isdir(place):
            _draw(place, seed, spec.size)
    except OSError as error:
        if not os.path.isdir(place):  # Else another run has written the same images first.
            raise InputError(
                f"The synthetic images cannot be written to {place.parent}: {error.strerror or error}. "
                "Set KERAS_HOME to a folder with enough space."
            ) from error
    return folders.load(place / NAME, spec, seed)


def _draw(place, seed, size):
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, ignore_cleanup_errors=True) as partial:
        _write(Path(partial) / "whole" / NAME, synthetic.lesions(seed=seed, size=size))
        (Path(partial) / "whole").rename(place)


def _write(root, splits):
    for split_name, split in splits.named().items():
        for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            path = root / split_name / splits.class_names[label] / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
                raise OSError(f"{path.name} could not be written")
