"""The files of a folder in a fixed order, folder by folder, so that never all names are in memory."""

import os
from collections.abc import Iterator
from pathlib import Path

from keras_vision.recipe import InputError


def files_under(folder: Path) -> Iterator[Path]:
    """Files in a folder and below it, sorted by the parts of their paths; what is hidden and links to folders left out.

    Raises:
        InputError: If a folder cannot be listed: its files would be missing without a word.
    """
    try:
        with os.scandir(folder) as entries:
            seen = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False), entry.is_file())
                for entry in entries
                if not entry.name.startswith(".")
            )
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {(error.strerror or str(error)).lower()}.") from error
    for name, is_folder, is_file in seen:
        if is_folder:
            yield from files_under(folder / name)
        elif is_file:
            yield folder / name
