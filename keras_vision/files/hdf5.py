"""HDF5 files that come from elsewhere, such as weights: read in a child process before they are read here."""

import os

from keras_vision.files import hdf5_trial, trial
from keras_vision.recipe import InputError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_TRIAL = trial.started("keras_vision.files.hdf5_trial")


def check(content: bytes, where: str | os.PathLike[str]) -> int:
    """Bytes of the arrays in a file.

    Args:
        where: Name of the file in error messages.

    Raises:
        InputError: If it is no HDF5 file, it is damaged, it expands to many times its size, or it refers to others.
    """
    if not content.startswith(SIGNATURE):
        raise InputError(f"{where} is not an HDF5 file: it lacks the signature.")
    try:
        size = _TRIAL.result(content)
    except trial.RaisedError as error:
        raise InputError(f"{where} is a damaged HDF5 file ({error}); the copy may be incomplete.") from error
    except trial.TrialError as error:
        raise InputError(f"{where} cannot be read: {error}.") from error
    if size == hdf5_trial.LINKS:
        raise InputError(f"{where} refers to other files; it is not opened.")
    if size == hdf5_trial.EXPANDS:
        raise InputError(f"{where} would expand to more than {hdf5_trial.MAX_EXPANSION} times its size.")
    return size
