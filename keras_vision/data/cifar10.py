"""CIFAR-10 by name: 60,000 colour images of 32 x 32 pixels, ten classes.

Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
"""

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np

from keras_vision.data import npz
from keras_vision.data.splits import Source, Split, Splits, take_validation
from keras_vision.files.download import check_hash, data_folders, download, keras_home
from keras_vision.recipe import InputError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# The archive's own name, and its name in Keras's cache.
ARCHIVE, CACHED = "cifar-10-python.tar.gz", "cifar-10-batches-py-target_archive"
SIDE = 32
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
# Everything that rebuilding an array of numbers calls.
UNPICKLED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def load(val_share: float = 0.1, seed: int = 0) -> Splits:
    """CIFAR-10 from disk or by download; a part of its training images becomes the validation split.

    Searched as `cifar10.npz` in the folder `KERAS_VISION_DATA`, then as the original archive there and in Keras's
    cache, then downloaded into the cache. An archive's SHA-256 is always checked before it is opened; the .npz is not
    checked, and is not called CIFAR-10.

    Args:
        val_share: Share of each class's training images that is kept for validation.
        seed: Decides which images these are.

    Raises:
        InputError: If a file has the wrong content, or the download fails.
    """
    there = _there()
    if there and there[0].suffix == ".npz":
        return npz.read(there[0], names=class_names, val_share=val_share, seed=seed)
    archive = there[0] if there else download(URL, ARCHIVE, _folders(), "sha256", SHA256)
    return read_archive(archive, val_share, seed)


def on_disk() -> bool:
    """Whether CIFAR-10, as an .npz or as the original archive, is on this machine."""
    return bool(_there())


def _folders():
    return data_folders(keras_home("datasets"))


def _there():
    """The files that exist, the preferred one first."""
    places = [folder / "cifar10.npz" for folder in _folders()[:-1]]
    places += [folder / name for folder in _folders() for name in (ARCHIVE, CACHED)]
    return [place for place in places if os.path.exists(place)]


def class_names(path: Path) -> tuple[str, ...] | None:
    """CIFAR-10's classes for a file with its name, else None."""
    return CLASS_NAMES if path.stem == "cifar10" else None


def read_archive(path: Path, val_share: float = 0.1, seed: int = 0) -> Splits:
    """The splits of the original archive.

    Raises:
        InputError: If the file's SHA-256 is not the original's.
    """
    check_hash(path, "sha256", SHA256, "CIFAR-10's archive")
    with tarfile.open(path) as archive:
        splits = {name: _read_batches(archive, batches) for name, batches in BATCHES.items()}
    splits["train"], splits["val"] = take_validation(splits["train"], val_share, seed, str(path))
    described = (
        f"CIFAR-10, the original archive (SHA-256 checked); validation: {100 * val_share:g} % of each class of its "
        f"training images, chosen with seed {seed}"
    )
    source = Source("CIFAR-10", described, "none stated; to be cited as Krizhevsky 2009", {path.name: SHA256})
    return Splits(splits["train"], splits["val"], splits["test"], CLASS_NAMES, source)


def _read_batches(archive, names):
    """Images and labels of some batches, channels last; at most one batch is in memory in addition to the result."""
    images, labels, end = np.empty((0, SIDE, SIDE, 3), np.uint8), [], 0
    for name in names:
        batch = _Unpickler(archive.extractfile(f"cifar-10-batches-py/{name}"), encoding="bytes").load()
        data = batch[b"data"].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        if not end:  # All batches have the same number of images.
            images = np.empty((len(names) * len(data), *data.shape[1:]), np.uint8)
        images[end : end + len(data)] = data
        labels += batch[b"labels"]
        end += len(data)
    return Split(images, np.array(labels, np.int64))


class _Unpickler(pickle.Unpickler):
    """Reads dicts, lists, bytes and NumPy arrays; refuses a pickle that calls anything else."""

    def find_class(self, module, name):
        if (module, name) not in UNPICKLED:
            raise InputError(f"A batch of CIFAR-10 asks for {module}.{name}, which no array needs, so it is refused.")
        # NumPy 2 warns about its old name.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
