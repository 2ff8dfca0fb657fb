"""What a run notes down of its circumstances: versions, machine, data."""

import dataclasses
import hashlib
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from keras_vision import data
from keras_vision.pipeline import folder as run_folder
from keras_vision.recipe import Recipe


def environment() -> dict[str, Any]:
    """The backend, the date, the kind of machine, and the versions of the packages that matter, by name."""
    backend = keras.backend.backend()
    packages = ("keras-vision", "keras", "numpy", "scikit-learn", "opencv-python-headless", backend)
    return {
        "backend": backend,
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: _version(name) for name in packages},
    }


def _version(package):
    try:
        return version(package)
    except ModuleNotFoundError:
        return "unknown"  # A checkout that was put on the path instead of being installed.


def data_record(splits: data.Splits) -> dict[str, Any]:
    """Where the data comes from and how many images of each class it has, JSON-ready."""
    return {**dataclasses.asdict(splits.source), "counts": splits.counts()}


def is_data_of(run: str | Path, splits: data.Splits) -> bool:
    """Whether a finished run was made of the same files, with as many images of each class in each split."""
    before, now = run_folder.data_of(run), data_record(splits)
    return all(before.get(name) == now[name] for name in ("files", "counts"))


def identity(recipe: Recipe) -> dict[str, Any]:
    """What must be equal for an interrupted run to go on: the recipe, the backend and the versions, JSON-ready."""
    found = environment()
    del found["date"]
    return {"recipe": dataclasses.asdict(recipe), **found}


def data_identity(splits: data.Splits) -> dict[str, Any]:
    """What must be equal of the data, which is known only after it was read."""
    labels = {name: hashlib.sha256(split.labels.tobytes()).hexdigest() for name, split in splits.named().items()}
    return {**splits.source.files, **{f"labels of {name}": digest for name, digest in labels.items()}}


def write_circumstances(folder: Path, recipe: Recipe, environment: dict[str, Any], data: dict[str, Any]) -> None:
    """Writes the recipe, and the environment with the data's record, into a run's folder."""
    (folder / run_folder.RECIPE).write_text(recipe.to_json(), "utf-8")
    run_folder.write_json(folder / run_folder.ENVIRONMENT, {**environment, "data": data})
