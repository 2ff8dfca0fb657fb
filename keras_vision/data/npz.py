"""Images and volumes from .npz files, in the layout of MedMNIST or of Keras's data sets.

MedMNIST's: `train_images`, `train_labels`, `val_images`, ... `test_labels`. Keras's: `x_train`, `y_train`, `x_test`,
`y_test`. The validation split may be missing; it is then taken from the training split. Images are uint8, of
shape `(N, H, W)`, `(N, H, W, 3)` or, in 3D, `(N, D, H, W)`; labels are integers, of shape `(N,)` or `(N, 1)`. Labels of
0 and 1, of shape `(N, K)`, mark the labels of each image, as in ChestMNIST, or one-hot classes.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_vision.data.splits import Source, Split, Splits, file_sha256, take_validation
from keras_vision.files import archives, outside
from keras_vision.recipe import InputError

MAX_CLASSES = 10_000
# Name of the layout; patterns of the keys of a split's images and labels.
MEDMNIST = ("MedMNIST layout", "{}_images", "{}_labels")
KERAS = ("the layout of Keras's data sets", "x_{}", "y_{}")


def read(
    path: Path | str,
    *,
    names: Callable[[Path], tuple[str, ...] | None] | None = None,
    official: Callable[[Path], bool] | None = None,
    val_share: float = 0.1,
    seed: int = 0,
) -> Splits:
    """The splits of an .npz file.

    Class names come from `NAME.labels.txt` next to the file (one per line), else from `names`, else they are `class_0`,
    `class_1`, ...

    Args:
        names: Function from the path to the class names or None, for files named after a data set.
        official: Function that says whether the file is one that is published under its name, by its hash; such a file
            may expand without a limit, as volumes of masks do.
        val_share: Share of the training images that is kept for validation, if the file has no validation split.
        seed: Decides which images these are.

    Raises:
        InputError: If the file is not such an .npz file.
    """
    path = Path(path)
    (layout, images_key, labels_key), arrays = _read_arrays(path, official)
    splits: dict[str, Split] = {}
    described = f"The file {path.name}, in {layout}"
    for name in ("train", "val", "test"):
        keys = images_key.format(name), labels_key.format(name)
        if keys[0] in arrays:
            images = as_images(arrays.pop(keys[0]), f"{path}: {keys[0]}")
            splits[name] = Split(images, as_labels(arrays.pop(keys[1]), f"{path}: {keys[1]}"))
    if all(split.labels.ndim == 2 and np.all(split.labels.sum(axis=1) == 1) for split in splits.values()):
        splits = {name: Split(split.images, split.labels.argmax(axis=1)) for name, split in splits.items()}
        described += ", with one-hot labels"
    # Many files are named after one of Keras's data sets, and nothing in them shows whether they are the original.
    source_name = path.stem if layout == MEDMNIST[0] and "val" in splits else path.name
    if "val" not in splits:
        splits["train"], splits["val"] = take_validation(splits["train"], val_share, seed, str(path))
        described += (
            f"; validation: {100 * val_share:g} % of each class of its training images, chosen with seed {seed}"
        )
    class_names = _class_names(path, splits, names)
    source = Source(source_name, described, "unknown", {path.name: file_sha256(path)})
    return Splits(splits["train"], splits["val"], splits["test"], class_names, source)


def _read_arrays(path, official):
    """The file's layout and its arrays by key."""
    if path.suffix != ".npz":
        raise InputError(f"--data takes an .npz in the layout of MedMNIST or of Keras's data sets. Received: {path}.")
    outside.require_regular(path)
    if not zipfile.is_zipfile(path):
        size = path.stat().st_size
        raise InputError(f"{path} ({size} bytes) is damaged or not an .npz file; the copy may be incomplete.")
    with archives.opened(path, may_expand=None if official is None else lambda: official(path)) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        layout, keys = _keys(path, list(members))
        # Every header first: nothing is read of a file that contradicts itself.
        for key in keys:
            _check_header(path, archive, members[key])
        return layout, {key: _read_array(archive, members[key]) for key in keys}


def _check_header(path, archive, member):
    if not member.filename.endswith(".npy"):
        raise InputError(f"{path} is damaged: {member.filename} is not an array.")
    with archive.open(member) as file:
        try:
            _, dtype = archives.array_header(file, member.file_size)
        except ValueError as error:
            raise InputError(f"{path} is damaged: {member.filename}: {error}.") from error
    if dtype.hasobject:
        raise InputError(f"{path} contains pickled objects, which can run code when read; it is refused.")


def _read_array(archive, member):
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _keys(path, there):
    """A file's layout and the keys to read; the validation split's only if the file has one of them."""
    layout = KERAS if "x_train" in there else MEDMNIST
    splits = {name: [pattern.format(name) for pattern in layout[1:]] for name in ("train", "val", "test")}
    if not set(splits["val"]) & set(there):
        del splits["val"]
    keys = [key for pair in splits.values() for key in pair]
    missing = [key for key in keys if key not in there]
    if missing:
        raise InputError(f"{path} is not in {layout[0]}: it lacks {', '.join(missing)}. It has: {', '.join(there)}.")
    return layout, keys


def as_images(images: np.ndarray, where: str) -> np.ndarray:
    """Checked uint8 images with a channel axis, shape `(N, H, W, C)` or `(N, D, H, W, C)`.

    Raises:
        InputError: If dtype or shape is another.
    """
    if images.dtype != np.uint8:
        raise InputError(f"{where} must be uint8, 0 to 255. Received: dtype {images.dtype}.")
    # (N, H, W, 3) is a colour image and (N, D, H, W) a gray volume: only the last axis distinguishes them.
    if images.ndim == 3 or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        images = images[..., np.newaxis]
    if images.ndim not in (4, 5) or images.shape[-1] not in (1, 3):
        raise InputError(
            f"{where} must have shape (N, H, W), (N, H, W, 3), (N, D, H, W) or (N, D, H, W, 3). "
            f"Received: shape {images.shape}."
        )
    return images


def as_labels(labels: np.ndarray, where: str) -> np.ndarray:
    """Checked int64 labels, shape `(N,)`, or `(N, K)` of 0 and 1.

    Raises:
        InputError: If they are not integers of shape `(N,)` or `(N, 1)`, or zeros and ones of shape `(N, K)`.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        if labels.dtype.kind not in "buif" or not np.isin(labels, (0, 1)).all():
            raise InputError(
                f"{where}: with several columns, labels must be 0 or 1. Received: shape {labels.shape}, dtype "
                f"{labels.dtype}."
            )
        return labels.astype(np.int64)
    if labels.ndim not in (1, 2) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{where} must be integers of shape (N, 1). Received: shape {labels.shape}, dtype {labels.dtype}."
        )
    return labels.reshape(-1).astype(np.int64)


def _class_names(path, splits, names):
    labels_file = path.with_name(path.stem + ".labels.txt")
    if labels_file.is_file():
        return _read_names(labels_file)
    known = names(path) if names else None
    if known is not None:
        return known
    columns = next((split.labels.shape[1] for split in splits.values() if split.labels.ndim == 2), None)
    labels = [split.labels for split in splits.values() if len(split)]
    highest = columns - 1 if columns else max((int(part.max()) for part in labels), default=0)
    if highest >= MAX_CLASSES:
        raise InputError(f"{path}: there can be at most {MAX_CLASSES} classes. Received: the label {highest}.")
    return tuple(f"class_{label}" for label in range(highest + 1))


def _read_names(labels_file):
    lines = outside.read_text(labels_file, limit=outside.MAX_NAMES_BYTES).splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) != len(names):
        raise InputError(f"{labels_file} names a class twice.")
    return names
