"""Image classifiers from data to a phone, on TensorFlow, JAX and torch.

data -> models -> training -> evaluation -> explanation -> quantization

    import keras_vision as kv

    recipe = kv.override(kv.recipe("derma"), data="synthetic", augment=True)
    result = kv.run(recipe, "runs/first")
    probabilities = kv.Classifier.open("runs/first").probabilities(images)

Importing the package imports no framework: the Keras backend can still be chosen through `KERAS_BACKEND` afterwards.
The stages (`kv.data`, `kv.models`, ...) are imported when they are first named.
"""

import importlib
import os
from typing import TYPE_CHECKING

from keras_vision.recipe import (
    AugmentationSpec,
    DataSpec,
    EvaluationSpec,
    ExplanationSpec,
    InputError,
    ModelSpec,
    QuantizationSpec,
    Recipe,
    TrainingSpec,
    override,
    smoke,
)

if TYPE_CHECKING:
    from keras_vision import data, evaluation, explanation, models, quantization, training
    from keras_vision.classifier import Classifier
    from keras_vision.pipeline.track import RunResult

__version__ = "0.2.0"
__all__ = [
    "AugmentationSpec",
    "Classifier",
    "DataSpec",
    "EvaluationSpec",
    "ExplanationSpec",
    "InputError",
    "ModelSpec",
    "QuantizationSpec",
    "Recipe",
    "TrainingSpec",
    "__version__",
    "data",
    "evaluation",
    "explanation",
    "models",
    "override",
    "quantization",
    "recipe",
    "run",
    "smoke",
    "training",
]
_STAGES = ("data", "models", "training", "evaluation", "explanation", "quantization")

# OpenCV reads its limit of pixels when it is first imported; `files.image_files.MAX_PIXELS` is the same number.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))


def recipe(track: str, name: str | None = None) -> Recipe:
    """A recipe of one of the package's tracks.

        kv.recipe("derma")            # its default
        kv.recipe("derma", "best")

    Args:
        track: `derma`, `fracture3d`, `cifar`, `imagenette`, `bones` or `plants`.
        name: Name of one of the track's recipes; None for its default.

    Raises:
        InputError: If there is no such track or recipe; the message lists them.
    """
    from dataclasses import replace

    from keras_vision.cli import TRACKS

    if track not in TRACKS:
        raise InputError(f"Tracks are {', '.join(TRACKS)}. Received: {track!r}.")
    recipes = importlib.import_module(f"keras_vision.{track}").RECIPES
    chosen = next(iter(recipes)) if name is None else name
    if chosen not in recipes:
        raise InputError(f"Recipes of {track} are {', '.join(recipes)}. Received: {chosen!r}.")
    return replace(recipes[chosen], track=track)


def run(
    recipe: Recipe,
    out: str | os.PathLike,
    *,
    overwrite: bool = False,
    restart: bool = False,
    checkpoint_seconds: float = 30.0,
) -> "RunResult":
    """Runs a recipe through all stages and leaves a run's folder.

        kv.run(kv.smoke(kv.recipe("derma")), "runs/first")

    A run that was interrupted goes on when it is called again with the same arguments.

    Args:
        recipe: From `recipe`, `override`, or a `Recipe` of your own.
        out: Folder of the run; it appears when the run is finished.
        overwrite: Whether a finished run in `out` may be replaced.
        restart: Whether to delete the state of an interrupted run and begin anew.
        checkpoint_seconds: Least time between two checkpoints.

    Returns:
        A `RunResult`: `folder`, `model`, `history` and `report`.

    Raises:
        InputError: If the folder is taken, the data or the recipe cannot be used, or the interrupted run differs.
    """
    from keras_vision import backend

    backend.choose_backend()
    return backend.import_quietly("keras_vision.pipeline.track").run(
        recipe, out, overwrite=overwrite, restart=restart, checkpoint_seconds=checkpoint_seconds
    )


def __getattr__(name: str):
    if name in _STAGES:
        from keras_vision import backend

        backend.take_installed()  # Most stages import Keras.
        return importlib.import_module(f"{__name__}.{name}")
    if name == "Classifier":
        return importlib.import_module(f"{__name__}.classifier").Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
