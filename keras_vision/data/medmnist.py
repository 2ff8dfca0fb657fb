"""MedMNIST's data sets by name.

Source: Yang et al. 2023, https://doi.org/10.1038/s41597-022-01721-8
"""

import dataclasses
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

from keras_vision.data import npz
from keras_vision.data.splits import Splits
from keras_vision.files.download import check_hash, data_folders, download, file_hash
from keras_vision.recipe import InputError

SIZES = {2: (28, 64, 128, 224), 3: (28, 64)}


@functools.cache
def info() -> dict[str, Any]:
    """MedMNIST's own table of its data sets: labels, URLs, MD5s, licences.

    The file is loaded without its package: the package imports torch, which takes seconds and must not be imported
    after TensorFlow in one process.
    """
    package = importlib.util.find_spec("medmnist")
    if package is None or not package.submodule_search_locations:
        raise InputError("MedMNIST's data sets need the package medmnist: pip install medmnist.")
    path = Path(package.submodule_search_locations[0]) / "info.py"
    spec = importlib.util.spec_from_file_location("medmnist_info", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.INFO


def load(name: str, size: int = 28) -> Splits:
    """A MedMNIST data set by name, from disk or by download.

    Searched in the folder `KERAS_VISION_DATA`, then in `~/.medmnist`; then downloaded there. MedMNIST's MD5 is always
    checked.

    Raises:
        InputError: If there is no data set of that name and size, its file is damaged, or the download fails.
    """
    if name not in info():
        raise InputError(
            f"There is no folder, file or data set called {name!r}. --data takes a MedMNIST name, cifar10, the path of "
            "an .npz file or of a folder, imagenette, fracatlas, flower_photos, synthetic, synthetic3d or "
            f"synthetic-folders. Received: {name!r}. MedMNIST's names: "
            f"{', '.join(sorted(info()))}."
        )
    sizes = SIZES[3 if name.endswith("3d") else 2]
    if size not in sizes:
        raise InputError(f"--size of {name} takes one of {', '.join(map(str, sizes))}. Received: {size}.")
    suffix = _suffix(size)
    md5, url = info()[name][f"MD5{suffix}"], info()[name][f"url{suffix}"]
    there = [place for place in _places(name, size) if os.path.exists(place)]
    if there:
        check_hash(there[0], "md5", md5, "MedMNIST's file")
        return _official(there[0])
    folders = [place.parent for place in _places(name, size)]
    return _official(download(url, f"{name}{suffix}.npz", folders, "md5", md5))


def on_disk(name: str, size: int = 28) -> bool:
    """Whether the file of a data set is on this machine."""
    return any(os.path.exists(place) for place in _places(name, size))


def _suffix(size):
    return "" if size == 28 else f"_{size}"


def _places(name, size):
    return [folder / f"{name}{_suffix(size)}.npz" for folder in data_folders(Path.home() / ".medmnist")]


def _official(path):
    """The splits of a file with MedMNIST's MD5."""
    name = _known_name(path)
    assert name is not None
    splits, known = npz.read(path, names=class_names, official=is_official), info()[name]
    described = f"{known['python_class']}, MedMNIST's official file (MD5 checked)"
    return dataclasses.replace(
        splits, source=dataclasses.replace(splits.source, description=described, licence=known["license"])
    )


def class_names(path: Path) -> tuple[str, ...] | None:
    """Class names of the MedMNIST set that has the file's name, or None."""
    known = _known_name(path)
    if known is None:
        return None
    return tuple(info()[known]["label"][key] for key in sorted(info()[known]["label"], key=int))


def is_official(path: Path) -> bool:
    """Whether a file has MedMNIST's MD5 for its name.

    AdrenalMNIST3D and VesselMNIST3D are masks: AdrenalMNIST3D at 28 expands 126 times.
    """
    known = _known_name(path)
    if known is None:
        return False
    expected = info()[known].get(f"MD5{path.stem.removeprefix(known)}")
    return file_hash(path, "md5") == expected


def is_ordered(path: Path) -> bool:
    """Whether the MedMNIST set that has the file's name has grades for classes, as RetinaMNIST has."""
    known = _known_name(path)
    return known is not None and info()[known]["task"] == "ordinal-regression"


def _known_name(path):
    """The MedMNIST set that has the file's name, or None."""
    name = path.stem
    for size in (64, 128, 224):
        name = name.removesuffix(f"_{size}")
    return name if name in info() else None
