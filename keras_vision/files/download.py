"""Known files, data sets and weights: their folders, hashes and downloads."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from keras_vision.recipe import InputError


def keras_home(inside: str) -> Path:
    """A folder inside Keras's home, `KERAS_HOME` or `~/.keras`."""
    # Path.expanduser raises if there is no such user.
    return Path(os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))) / inside


def data_folders(home: Path | str) -> list[Path]:
    """Folders to search for a known file: `KERAS_VISION_DATA`, if it is set, then `home`."""
    named = os.environ.get("KERAS_VISION_DATA")
    # Path.expanduser raises if there is no such user.
    return [Path(os.path.expanduser(path)) for path in (named, home) if path]


def file_hash(path: Path, algorithm: str) -> str:
    """A file's hash as lower-case hexadecimal text.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def check_hash(
    path: Path,
    algorithm: str,
    expected: str,
    what: str,
    *,
    flag: str = "--data",
    remedy: str = "Delete it to download it again",
) -> None:
    """Refuses a file with another hash than the expected one.

    Args:
        algorithm: `md5` or `sha256`.
        expected: The hash as lower-case hexadecimal text.
        what: Name of the expected file, for the message.
        flag: The flag for another file, for the message.
        remedy: How the expected file is fetched again, for the message.

    Raises:
        InputError: If the hash differs, or the file cannot be read.
    """
    actual = file_hash(path, algorithm)
    if actual != expected:
        name = {"md5": "MD5", "sha256": "SHA-256"}[algorithm]
        raise InputError(
            f"{path} is not {what}: its {name} is {actual}, not {expected}. {remedy}, "
            f"or use another file with {flag} PATH."
        )


def download(
    url: str,
    file_name: str,
    folders: Sequence[Path],
    algorithm: str,
    expected: str,
    *,
    flag: str = "--data",
    trial: str = "synthetic",
) -> Path:
    """Downloads a file into the last of the folders and checks it.

    Args:
        folders: Folders that were searched for the file; see `data_folders`.
        algorithm: `md5` or `sha256`.
        expected: The hash as lower-case hexadecimal text.
        flag: The flag for another file, for the message.
        trial: Value of that flag that needs no file, for the message.

    Returns:
        Path of the file.

    Raises:
        InputError: If the download fails; the message names the alternatives.
    """
    import keras

    folder = folders[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Downloading {url}", flush=True)
        fetched = keras.utils.get_file(
            file_name, url, file_hash=expected, hash_algorithm=algorithm, cache_dir=folder, cache_subdir=""
        )
        return Path(fetched)
    except Exception as error:  # get_file raises a bare Exception for a failed download, ValueError for a wrong hash.
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{file_name} is not in {' or '.join(map(str, folders))}, and downloading it failed ({reason}). "
            f"Either download {url} by hand to {folder / file_name}; "
            f"or use another file with {flag} PATH; or try the track with {flag} {trial}."
        ) from error
