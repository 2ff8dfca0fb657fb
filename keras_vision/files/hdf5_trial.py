"""The child process in which HDF5 reads a file for the first time. `files.trial` starts it."""

import io
import sys
import warnings
from typing import Any

from keras_vision.files import trial

# Not the bytes of arrays, which are 0 or more.
EXPANDS, LINKS = -2, -3
MAX_EXPANSION, EXPANDS_FREELY = 100, 2**26
MAX_DEPTH = 100


def read(content: bytes, mode: int) -> int:
    """Reads every group, array and attribute of a file.

    Args:
        mode: Not used.

    Returns:
        The bytes of all arrays; `EXPANDS` if they are many times the file's, `LINKS` if it refers to other files.
    """
    import h5py

    limit = max(EXPANDS_FREELY, MAX_EXPANSION * len(content))
    with h5py.File(io.BytesIO(content), "r") as file:
        return _read_group(h5py, file, limit, 0)


def _read_group(h5py: Any, group: Any, limit: int, depth: int) -> int:
    """The bytes of the arrays in a group, at most about `limit`, or a reason to refuse it."""
    if depth > MAX_DEPTH:
        return EXPANDS
    total = _read_attributes(group)
    for name in group:
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            return LINKS
        item = group[name]
        if isinstance(item, h5py.Group):
            size = _read_group(h5py, item, limit - total, depth + 1)
            if size < 0:
                return size
        elif isinstance(item, h5py.Dataset):
            size = _read_attributes(item) + item.nbytes
            if item.external or item.is_virtual:
                return LINKS
            if total + size > limit:
                return EXPANDS
            item[()]
        else:
            size = 0
        total += max(size, 1)  # A group that contains itself ends, too.
        if total > limit:
            return EXPANDS
    return total


def _read_attributes(item):
    return sum(getattr(value, "nbytes", 0) for value in item.attrs.values())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(trial.serve(read))
