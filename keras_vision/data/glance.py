"""What can be said of data before its images are decoded: how large and how many they are, and of how many classes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_vision.data import folders, known_folders, label_table
from keras_vision.data.sources import load_splits
from keras_vision.data.splits import Split
from keras_vision.files import image_files
from keras_vision.recipe import DataSpec

LOOKED_AT = 60  # Files whose size is read.


@dataclass(frozen=True)
class Glance:
    """Data at a glance.

    Attributes:
        images: Number of images, of all splits.
        class_counts: Images of each class, or with each label.
        shorter_side: Median of the images' shorter sides, in pixels; 0 where none could be read.
        volumes: Whether they are volumes.
    """

    images: int
    class_counts: tuple[int, ...]
    shorter_side: int
    volumes: bool = False


def glance(spec: DataSpec) -> Glance:
    """Looks at the data that a `DataSpec` names.

    A folder or table is only listed, and some files' sizes are read; other data is loaded.

    Raises:
        InputError: If there is no such data, or it is not clear what it means.
    """
    path = spec.path or Path(spec.data)
    if spec.data in known_folders.KNOWN and not path.is_dir():
        path = known_folders.folder_of(spec.data)
    if not (path.is_dir() or label_table.is_table(path)):
        splits = load_splits(spec)
        counts = np.sum(list(splits.counts().values()), axis=0)
        shape = splits.image_shape
        return Glance(sum(map(len, splits.named().values())), tuple(counts.tolist()), min(shape[:-1]), len(shape) == 4)
    root, listing = folders.listed(path, spec)
    whole = Split(listing.files, listing.labels)
    counts = whole.labels.sum(axis=0) if whole.labels.ndim == 2 else np.bincount(whole.labels)
    volumes = len(folders.image_shape(listing, spec)) == 4
    sides = [] if volumes else [side for file in whole.spread(LOOKED_AT).images if (side := _shorter_side(root / file))]
    return Glance(len(whole), tuple(counts.tolist()), int(np.median(sides)) if sides else 0, volumes)


def _shorter_side(path):
    """In pixels; None for a file that cannot be read."""
    try:
        content = image_files.read_bytes(path)
        size = image_files.stated_size(content) or image_files.decode(content, name=str(path)).shape[:2]
    except image_files.UnreadableError:
        return None
    return min(size)
