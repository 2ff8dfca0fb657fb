"""Folders that are written under a temporary name and renamed when they are whole, so that nobody reads half of one."""

import contextlib
import os
import shutil
from pathlib import Path


def put_in_place(partial: Path, place: Path) -> None:
    """Renames a finished folder to its place, instead of what may be there.

    Args:
        partial: A folder of `tempfile.mkdtemp`, beside `place`.
        place: Where it goes. A folder that is there is removed afterwards, and comes back when the renaming fails.

    Raises:
        OSError: If it cannot be renamed.
    """
    # `mkdtemp` makes folders that their owner alone can read.
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
