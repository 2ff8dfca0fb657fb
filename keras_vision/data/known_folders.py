"""Image folders that the tracks are written for, by name; downloaded by hand, because no hash of them is known."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from keras_vision.data import folders
from keras_vision.data.splits import Splits
from keras_vision.files.download import data_folders, keras_home
from keras_vision.recipe import DataSpec, InputError


@dataclass(frozen=True)
class KnownFolder:
    """Where a folder comes from.

    Attributes:
        page: Address of the download page.
        description: Name, content and source.
        licence: Licence of the images.
    """

    page: str
    description: str
    licence: str


KNOWN = {
    "imagenette": KnownFolder(
        "https://github.com/fastai/imagenette", "Imagenette, ten classes of ImageNet", "ImageNet's terms of access"
    ),
    "fracatlas": KnownFolder(
        "https://doi.org/10.6084/m9.figshare.22363012",
        "FracAtlas, X-rays of bones, Abedeen et al. 2023, https://doi.org/10.1038/s41597-023-02432-4",
        "CC BY 4.0",
    ),
    "flower_photos": KnownFolder(
        "https://www.tensorflow.org/datasets/catalog/tf_flowers",
        "flower_photos, five kinds of flowers",
        "CC BY, by the photographers named in its LICENSE.txt",
    ),
}


def load(name: str, spec: DataSpec, seed: int) -> Splits:
    """A known folder's splits, from the folder `KERAS_VISION_DATA` or Keras's datasets.

    Raises:
        InputError: If it is in neither; the message says where to download it.
    """
    known = KNOWN[name]
    splits = folders.load(folder_of(name), spec, seed)
    described = f"{known.description}. {splits.source.description}"
    source = dataclasses.replace(splits.source, description=described, licence=known.licence)
    return dataclasses.replace(splits, source=source)


def folder_of(name: str) -> Path:
    """Where a known folder is.

    Raises:
        InputError: If it is in neither place; the message says where to download it.
    """
    places, known = _places(), KNOWN[name]
    for place in places:
        if os.path.isdir(place / name):
            return place / name
    raise InputError(
        f"There is no folder {name} in {' or '.join(map(str, places))}. Either download it from {known.page} and "
        f"put its class folders, or its train and val, into {places[-1] / name}; or use another folder with "
        "--data FOLDER; or try the track with --data synthetic-folders."
    )


def on_disk(name: str) -> bool:
    """Whether a known folder is on this machine."""
    return any(os.path.isdir(place / name) for place in _places())


def _places():
    return data_folders(keras_home("datasets"))
