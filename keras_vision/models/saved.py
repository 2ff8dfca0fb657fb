"""Models and weights that come from elsewhere: a .keras, .h5 or .weights.h5 file is checked before Keras reads it.

Keras reads them in its safe mode, which runs no code from a file. Nothing in a .keras file limits the layers that its
configuration asks for, so the memory of a model's variables is limited by the arrays that the file has.
"""

import contextlib
import contextvars
import functools
import math
import os
import re
import threading
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_vision.files import archives, hdf5, outside
from keras_vision.keras_internals.nodes import all_layers
from keras_vision.recipe import InputError, first_line

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
# EfficientNetV2L's has one megabyte.
MAX_CONFIG_BYTES = 2**23
MAX_WEIGHTS_BYTES = 2**36
# Weights may be stored in half precision, and variables that are not stored are small.
VARIABLES, MORE_VARIABLES = 4, 2**26
_left: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("variables", default=None)
_patching = threading.Lock()


def read_model(path: str | os.PathLike[str]) -> keras.Model:
    """The model in a .keras file, or in an .h5 file of older versions of Keras, not compiled.

    Raises:
        InputError: If it cannot be read, would run code, or asks for more memory than its weights need.
    """
    model: Any
    try:
        with limited_variables(check(path)):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except InputError:
        raise
    except Exception as error:  # A damaged archive can raise anything in Keras's reader.
        reason = first_line(error)
        unknown = re.search(r"Could not locate class '([^']+)'", str(error))
        if unknown:
            reason = (
                f"it has objects of the class {unknown[1]!r}, which Keras does not know. Pass --import MODULE, the "
                "Python module that registers it with keras.saving.register_keras_serializable."
            )
        raise InputError(f"{path} cannot be read as a Keras model: {reason}") from error
    return model


def check(path: str | os.PathLike[str]) -> int:
    """Bytes of the arrays in a file of a model or of weights, which is checked.

    Raises:
        InputError: If it is neither an archive nor an HDF5 file, or damaged, or its size or content is not safe.
    """
    if os.path.isdir(path):
        raise InputError(f"{path} cannot be read as a Keras model: it is a folder.")
    outside.require_regular(path)
    if not zipfile.is_zipfile(path):
        content = outside.read_bytes(path, MAX_WEIGHTS_BYTES)
        if not content.startswith(hdf5.SIGNATURE):
            raise InputError(f"{path} cannot be read as a Keras model: it is neither a .keras nor an .h5 file.")
        return hdf5.check(content, path)
    with archives.opened(path) as archive:
        names = archive.namelist()
        if CONFIG not in names or WEIGHTS not in names:
            raise InputError(f"{path} cannot be read as a Keras model: it lacks {CONFIG} or {WEIGHTS}.")
        if archive.getinfo(CONFIG).file_size > MAX_CONFIG_BYTES:
            raise InputError(f"{path} has a configuration of more than {MAX_CONFIG_BYTES >> 20} MB.")
        return hdf5.check(archive.read(WEIGHTS), f"{Path(path)}: {WEIGHTS}")


def load_weights(model: keras.Model, path: str | os.PathLike[str], name: str) -> None:
    """Loads a file of weights into a network of keras.applications.

    Args:
        model: Changed in place.
        path: An .h5, .weights.h5 or .keras file, of the network itself or, if .keras, of a model that has it inside.
        name: The network's, for the error.

    Raises:
        InputError: If the file cannot be read or does not fit.
    """
    checked = False
    try:
        check(path)
        checked = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # One for each layer that does not fit, before the error.
            model.load_weights(path)
    except Exception as error:  # A damaged file can raise anything in Keras's and HDF5's readers.
        if checked and zipfile.is_zipfile(path) and (weights := _nested_weights(path, model)):
            model.set_weights(weights)
            return
        raise InputError(
            f"--weights {path} cannot be loaded into {name} ({first_line(error).rstrip('.')}). Pass an .h5, "
            ".weights.h5 or .keras file of the keras.applications network without its top (include_top=False), or a "
            ".keras file of a model that was built around it."
        ) from error


def _nested_weights(path, model):
    """Weights of the one model inside of a saved model that has the same layers as `model`; else None."""
    try:
        whole = read_model(path)
    except InputError:
        return None
    inside = [layer for layer in all_layers(whole)[1:] if isinstance(layer, keras.Model)]
    equal = [part for part in inside if _weights_of(part) == _weights_of(model)]
    return equal[0].get_weights() if len(equal) == 1 else None


def _weights_of(model):
    return [(weight.name, tuple(weight.shape)) for weight in model.weights]


@contextlib.contextmanager
def limited_variables(stored: int) -> Iterator[None]:
    """Refuses variables that need much more memory than `stored` bytes, in this thread, before they are made."""
    token = _left.set([VARIABLES * stored + MORE_VARIABLES])
    variables: Any = keras.Variable
    original = variables.__init__

    @functools.wraps(original)
    def counted(variable, initializer, shape=None, *args, **kwargs):
        left = _left.get()
        if left is not None and callable(initializer) and shape is not None:
            left[0] -= 4 * math.prod(int(side) for side in shape)
            if left[0] < 0:
                raise InputError("Its layers ask for many times the memory of its weights.")
        original(variable, initializer, shape, *args, **kwargs)

    with _patching:
        variables.__init__ = counted
        try:
            yield
        finally:
            variables.__init__ = original
            _left.reset(token)
