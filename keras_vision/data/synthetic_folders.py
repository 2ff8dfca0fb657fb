"""Folders of drawn pictures, made on the spot, so that what reads folders can be tried with none."""

import tempfile
from pathlib import Path

import cv2

from keras_vision.data import folders, picture_cache, synthetic

NAME = "synthetic-folders"


def load(spec, seed=0):
    """The pictures of `synthetic.lesions` as JPEGs in class folders, written once beside the caches, and read back.

    Args:
        spec: A `recipe.DataSpec`.
        seed: Decides every picture.
    """
    place = picture_cache.home() / f"drawn-{seed}-{spec.size}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, ignore_cleanup_errors=True) as partial:
            _write(Path(partial) / "whole" / NAME, synthetic.lesions(seed=seed, size=spec.size))
            (Path(partial) / "whole").rename(place)
    return folders.load(place / NAME, spec, seed)


def _write(root, splits):
    for split_name, split in splits.named().items():
        for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            path = root / split_name / splits.class_names[label] / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
