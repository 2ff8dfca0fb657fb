"""MedMNIST's data sets by name, and any file in their layout by path.

The layout: an .npz with `train_images`, `train_labels`, `val_images`, ... `test_labels`; uint8 images of shape
`(N, H, W)`, `(N, H, W, 3)` or, in 3D, `(N, D, H, W)`; labels of shape `(N, 1)`.
Source: Yang et al. 2023, https://doi.org/10.1038/s41597-022-01721-8
"""

import functools
import hashlib
import importlib.util
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_vision.data.splits import Source, Split, Splits, file_sha256
from keras_vision.recipe import InputError

MAX_CLASSES = 10_000
SIZES = {2: (28, 64, 128, 224), 3: (28, 64)}


@functools.cache
def info():
    """MedMNIST's own table of its data sets: labels, URLs, MD5s, licences.

    Its file is loaded without its package: the package imports torch, which takes seconds and must not come after
    TensorFlow in one process.
    """
    package = importlib.util.find_spec("medmnist")
    if package is None or not package.submodule_search_locations:
        raise InputError("MedMNIST's names need the package medmnist: pip install medmnist.")
    path = Path(package.submodule_search_locations[0]) / "info.py"
    spec = importlib.util.spec_from_file_location("medmnist_info", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.INFO


def load(name, size=28):
    """A MedMNIST data set by name, from disk or from its home.

    Looked for in the folder `KERAS_VISION_DATA`, then in `~/.medmnist`; then downloaded there. Always checked against
    MedMNIST's MD5.

    Raises:
        InputError: If there is no data set of that name and size, its file is damaged, or the download fails.
    """
    if name not in info():
        raise InputError(
            f"--data takes a MedMNIST name, the path of an .npz, synthetic or synthetic3d. Received: {name!r}. "
            f"MedMNIST's names: {', '.join(sorted(info()))}."
        )
    sizes = SIZES[3 if name.endswith("3d") else 2]
    if size not in sizes:
        raise InputError(f"--size of {name} takes one of {', '.join(map(str, sizes))}. Received: {size}.")
    suffix = "" if size == 28 else f"_{size}"
    file_name, md5, url = f"{name}{suffix}.npz", info()[name][f"MD5{suffix}"], info()[name][f"url{suffix}"]
    for folder in _folders():
        if (folder / file_name).exists():
            _check_md5(folder / file_name, md5)
            return read_npz(folder / file_name, official=True)
    return read_npz(_download(url, file_name, md5), official=True)


def _folders():
    named = os.environ.get("KERAS_VISION_DATA")
    return [*([Path(named).expanduser()] if named else []), Path.home() / ".medmnist"]


def _check_md5(path, md5):
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise InputError(
            f"{path} is not MedMNIST's file: its MD5 is {found}, {md5} is needed. Delete it to download it anew, "
            "or use it as it is with --data PATH."
        )


def _download(url, file_name, md5):
    import keras

    folder = _folders()[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Downloading {url}", flush=True)
        return Path(
            keras.utils.get_file(file_name, url, file_hash=md5, hash_algorithm="md5", cache_dir=folder, cache_subdir="")
        )
    except Exception as error:  # get_file raises a bare Exception for a failed download, ValueError for a wrong hash.
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{file_name} is neither in {' nor in '.join(map(str, _folders()))}, and downloading it failed ({reason}). "
            f"Three ways out: fetch {url} by hand and put it at {folder / file_name}; "
            "name a file that you have with --data PATH; or try the track with --data synthetic."
        ) from error


def read_npz(path, *, official=False):
    """The splits of an .npz file in MedMNIST's layout.

    Class names come from `NAME.labels.txt` beside the file (one a line), else from MedMNIST's table when the file has
    the name of one of its sets, else they are `class_0`, `class_1`, ...

    Args:
        official: Whether the file was checked to be MedMNIST's own.

    Raises:
        InputError: If the file is not such an .npz.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    splits = {}
    for name in ("train", "val", "test"):
        images = _as_images(arrays[f"{name}_images"], f"{path}: {name}_images")
        splits[name] = Split(images, _as_labels(arrays[f"{name}_labels"], f"{path}: {name}_labels"))
    class_names = _class_names(path, splits)
    licence, described = "unknown", f"The file {path.name}, in MedMNIST layout"
    if official:
        known = info()[_known_name(path)]
        licence, described = known["license"], f"{known['python_class']}, MedMNIST's official file (MD5 checked)"
    source = Source(path.stem, described, licence, {path.name: file_sha256(path)})
    return Splits(**splits, class_names=class_names, source=source)


def _read_arrays(path):
    if path.suffix != ".npz":
        raise InputError(f"--data takes an .npz in MedMNIST layout. Received: {path}.")
    keys = [f"{split}_{what}" for split in ("train", "val", "test") for what in ("images", "labels")]
    try:
        with path.open("rb") as opened:
            if not zipfile.is_zipfile(opened):
                size = path.stat().st_size
                raise InputError(f"{path} ({size} bytes) is damaged or no .npz file; it was perhaps not copied whole.")
            opened.seek(0)
            file = np.load(opened, allow_pickle=False)
            missing = [key for key in keys if key not in file.files]
            if missing:
                raise InputError(
                    f"{path} is not in MedMNIST layout: it lacks {', '.join(missing)}. It has: {', '.join(file.files)}."
                )
            arrays = {key: file[key] for key in keys}
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} says that it holds more than this machine's memory ({error}).") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); it was perhaps not copied whole.") from error
    except ValueError as error:
        if "pickle" in str(error):
            raise InputError(f"{path} holds pickled objects, which can run code when read; it is refused.") from error
        raise InputError(f"{path} is damaged ({error}).") from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{path} is damaged: {key} is no array.")
    return arrays


def _as_images(images, where):
    if images.dtype != np.uint8:
        raise InputError(f"{where} must be uint8, 0 to 255. Received: dtype {images.dtype}.")
    # (N, H, W, 3) is a colour picture and (N, D, H, W) a gray volume: only the last axis can tell them apart.
    if images.ndim == 3 or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        images = images[..., np.newaxis]
    if images.ndim not in (4, 5) or images.shape[-1] not in (1, 3):
        raise InputError(
            f"{where} must have shape (N, H, W), (N, H, W, 3), (N, D, H, W) or (N, D, H, W, 3). "
            f"Received: shape {images.shape}."
        )
    return images


def _as_labels(labels, where):
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise InputError(
            f"{where} has {labels.shape[1]} labels an image (as ChestMNIST has); one label an image is needed. "
            f"Received: shape {labels.shape}."
        )
    if labels.ndim not in (1, 2) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{where} must be integers of shape (N, 1). Received: shape {labels.shape}, dtype {labels.dtype}."
        )
    return labels.reshape(-1).astype(np.int64)


def _known_name(path):
    """The name of the MedMNIST set that a file is called after, or None."""
    name = path.stem
    for size in (64, 128, 224):
        name = name.removesuffix(f"_{size}")
    return name if name in info() else None


def _class_names(path, splits):
    labels_file = path.with_name(path.stem + ".labels.txt")
    if labels_file.is_file():
        try:
            lines = labels_file.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{labels_file} cannot be read as UTF-8 text: {error}.") from error
        names = tuple(line.strip() for line in lines if line.strip())
        if len(set(names)) != len(names):
            raise InputError(f"{labels_file} names a class twice.")
        return names
    known = _known_name(path)
    if known is not None:
        return tuple(info()[known]["label"][key] for key in sorted(info()[known]["label"], key=int))
    highest = max((int(split.labels.max()) for split in splits.values() if len(split)), default=0)
    if highest >= MAX_CLASSES:
        raise InputError(f"{path}: labels must name at most {MAX_CLASSES} classes. Received: the label {highest}.")
    return tuple(f"class_{label}" for label in range(highest + 1))
