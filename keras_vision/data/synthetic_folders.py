"""Folders of drawn pictures, made on the spot, so that what reads folders can be tried with none."""

import os
import tempfile
from pathlib import Path

import cv2

from keras_vision.data import folders, synthetic

NAME = "synthetic-folders"


def load(spec, seed=0):
    """The pictures of `synthetic.lesions`, written as JPEGs into class folders and read back.

    Args:
        spec: A `recipe.DataSpec`.
        seed: Decides every picture.
    """
    with tempfile.TemporaryDirectory() as parent:
        root = Path(parent) / NAME
        _write(root, synthetic.lesions(seed=seed, size=spec.size))
        return folders.load(root, spec, seed)


def _write(root, splits):
    for split_name, split in splits.named().items():
        for number, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
            path = root / split_name / splits.class_names[label] / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            # The cache knows files by their times too: the same pictures are decoded once.
            os.utime(path, (0, 0))
