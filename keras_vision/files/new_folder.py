"""Folders that are written under a temporary name and renamed when complete, so that nobody reads a partial one."""

import contextlib
import os
import shutil
from pathlib import Path


def put_in_place(partial: Path, place: Path) -> None:
    """Renames a complete folder to its final name, replacing an existing folder.

    Args:
        partial: A folder on the file system of `place`.
        place: The final name. An existing folder is removed afterwards, and restored if renaming fails.

    Raises:
        OSError: If it cannot be renamed.
    """
    # `mkdtemp` makes folders that only their owner can read.
    partial.chmod(0o777 & ~_umask())
    old = partial.with_name(partial.name + ".old")
    with contextlib.suppress(FileNotFoundError):
        place.rename(old)
    try:
        partial.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
