"""CIFAR-10 by name: 60,000 colour pictures of 32 x 32 pixels, ten classes.

Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
"""

import os
import pickle
import tarfile

import numpy as np

from keras_vision.data import npz
from keras_vision.data.splits import Source, Split, Splits, take_validation
from keras_vision.files.download import check_hash, data_folders, download, keras_home
from keras_vision.recipe import InputError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
# The archive's own name, and the one that Keras's cache has it under.
ARCHIVE, CACHED = "cifar-10-python.tar.gz", "cifar-10-batches-py-target_archive"
SIDE = 32
BATCHES = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
# All that rebuilding an array of numbers calls for.
UNPICKLED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def load(val_share=0.1, seed=0):
    """CIFAR-10 from disk or from its home; a part of its training images becomes the validation split.

    Looked for as `cifar10.npz` in the folder `KERAS_VISION_DATA`, then as the original archive there and in Keras's
    cache, then downloaded into the cache. An archive is always checked against its SHA-256 before it is opened; the
    .npz is taken as it is, and is not called CIFAR-10.

    Args:
        val_share: Share of each class's training images that is kept for validation.
        seed: Decides which images these are.

    Raises:
        InputError: If a file is not what it should be, or the download fails.
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
    """The files that exist, in the order in which they are taken."""
    places = [folder / "cifar10.npz" for folder in _folders()[:-1]]
    places += [folder / name for folder in _folders() for name in (ARCHIVE, CACHED)]
    return [place for place in places if os.path.exists(place)]


def class_names(path):
    """CIFAR-10's classes for a file that is called after it, else None."""
    return CLASS_NAMES if path.stem == "cifar10" else None


def read_archive(path, val_share=0.1, seed=0):
    """The splits of the original archive.

    Raises:
        InputError: If the file has another SHA-256 than the original.
    """
    check_hash(path, "sha256", SHA256, "CIFAR-10's archive")
    with tarfile.open(path) as archive:
        splits = {name: _read_batches(archive, batches) for name, batches in BATCHES.items()}
    splits["train"], splits["val"] = take_validation(splits["train"], val_share, seed, str(path))
    described = (
        f"CIFAR-10, the original archive (SHA-256 checked); validation: {100 * val_share:g} % of each class of its "
        f"training images, drawn from seed {seed}"
    )
    source = Source("CIFAR-10", described, "none stated; to be cited as Krizhevsky 2009", {path.name: SHA256})
    return Splits(splits["train"], splits["val"], splits["test"], CLASS_NAMES, source)


def _read_batches(archive, names):
    """The pictures and labels of some batches, channels last; one batch more than they take is in memory at a time."""
    images, labels, end = np.empty((0, SIDE, SIDE, 3), np.uint8), [], 0
    for name in names:
        batch = _Unpickler(archive.extractfile(f"cifar-10-batches-py/{name}"), encoding="bytes").load()
        data = batch[b"data"].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        if not end:  # All batches have as many pictures.
            images = np.empty((len(names) * len(data), *data.shape[1:]), np.uint8)
        images[end : end + len(data)] = data
        labels += batch[b"labels"]
        end += len(data)
    return Split(images, np.array(labels, np.int64))


class _Unpickler(pickle.Unpickler):
    """Reads dicts, lists, bytes and NumPy arrays, and calls nothing else, whatever a pickle asks for."""

    def find_class(self, module, name):
        if (module, name) not in UNPICKLED:
            raise InputError(f"A batch of CIFAR-10 asks for {module}.{name}, which no array needs; it is refused.")
        # NumPy 2 warns where it is asked for by its old name.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
