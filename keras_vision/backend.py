"""The Keras backend: chosen before Keras is imported, and its native code kept from writing to the terminal."""

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

from keras_vision.files import packages
from keras_vision.recipe import InputError

BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend(backend: str | None = None) -> None:
    """Sets `KERAS_BACKEND` before Keras is imported, or leaves it unset where Keras's own choice is installed.

    Raises:
        InputError: If the backend is not one that this package knows, or is not installed, or if none is.
    """
    # TensorFlow's native code remarks on missing GPUs at every start; its errors still come as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen is None:
        if not take_installed():
            raise InputError(
                "No Keras backend is installed: pip install keras and one of tensorflow, jax and torch. Only a .tflite "
                "file needs none."
            )
        return
    if chosen not in BACKENDS:
        raise InputError(f"KERAS_BACKEND takes one of {', '.join(BACKENDS)}. Received: {chosen!r}.")
    if importlib.util.find_spec(chosen) is None:
        raise InputError(f"The backend {chosen} is not installed: pip install {chosen}, or choose another --backend.")


def chosen() -> str:
    """The backend that Keras has, or will have when it is imported."""
    return os.environ.get("KERAS_BACKEND") or _keras_choice()


def take_installed() -> bool:
    """Sets `KERAS_BACKEND` to the backend that is installed, if it is unset and Keras's own choice is not installed.

    Keras takes what its `keras.json` says, which Keras writes itself, and TensorFlow without one.

    Returns:
        Whether there is a backend.
    """
    if "KERAS_BACKEND" in os.environ or "keras" in sys.modules:
        return True
    own = _keras_choice()
    if own not in BACKENDS or importlib.util.find_spec(own) is not None:
        return True
    installed = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
    if installed:
        os.environ["KERAS_BACKEND"] = installed[0]
    return bool(installed)


def _keras_choice():
    """The backend that Keras takes without `KERAS_BACKEND`."""
    folder = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    try:
        with open(os.path.expanduser(os.path.join(folder, "keras.json")), encoding="utf-8") as file:
            settings = json.load(file)
        return settings.get("backend", BACKENDS[0])
    except (OSError, ValueError, AttributeError):
        return BACKENDS[0]


def import_quietly(name: str) -> ModuleType:
    """Imports a module, holding back what native code writes to standard error unless the import fails.

    TensorFlow writes some lines before it reads any setting of how much to write.

    Raises:
        InputError: If it needs a package that is not installed.
    """
    try:
        with native_noise_held():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (missing := packages.sentence(error)) is None:
            raise
        raise InputError(missing) from error


@contextlib.contextmanager
def native_noise_held() -> Iterator[None]:
    """Holds back what is written to standard error inside, by native code too, unless the block fails."""
    with tempfile.TemporaryFile() as held:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
