"""The Keras backend: chosen before Keras is imported, and its native code kept from writing to the terminal."""

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

from keras_vision.recipe import InputError

BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend(backend: str | None = None) -> None:
    """Sets `KERAS_BACKEND` before Keras is imported.

    Raises:
        InputError: If the backend is not one that this package knows, or is not installed.
    """
    # TensorFlow's native code remarks on missing GPUs at every start; its errors still come as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen is None:
        return
    if chosen not in BACKENDS:
        raise InputError(f"KERAS_BACKEND takes one of {', '.join(BACKENDS)}. Received: {chosen!r}.")
    if importlib.util.find_spec(chosen) is None:
        raise InputError(f"The backend {chosen} is not installed: pip install {chosen}, or choose another --backend.")


def import_quietly(name: str) -> ModuleType:
    """Imports a module, holding back what native code writes to standard error unless the import fails.

    TensorFlow writes some lines before it reads any setting of how much to write.
    """
    with native_noise_held():
        return importlib.import_module(name)


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
