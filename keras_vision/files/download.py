"""Known files, data sets and weights: where they may lie, whether they are what they should be, and how they come."""

import hashlib
import os
from pathlib import Path

from keras_vision.recipe import InputError


def keras_home(inside):
    """A folder of Keras's own home: `KERAS_HOME`, or `~/.keras`."""
    # Path.expanduser raises where there is no such user.
    return Path(os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))) / inside


def data_folders(home):
    """Where a known file may lie: the folder `KERAS_VISION_DATA`, if it is set, then `home`."""
    named = os.environ.get("KERAS_VISION_DATA")
    # Path.expanduser raises where there is no such user.
    return [Path(os.path.expanduser(path)) for path in (named, home) if path]


def check_hash(path, algorithm, expected, what, *, flag="--data"):
    """Refuses a file whose content is not the expected one.

    Args:
        algorithm: `md5` or `sha256`.
        expected: The hash as lower-case hexadecimal text.
        what: What the file should be, for the message.
        flag: The flag that takes another file.

    Raises:
        InputError: With both hashes.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if found != expected:
        name = {"md5": "MD5", "sha256": "SHA-256"}[algorithm]
        raise InputError(
            f"{path} is not {what}: its {name} is {found}, {expected} is needed. Delete it to download it anew, "
            f"or name another file with {flag} PATH."
        )


def download(url, file_name, folders, algorithm, expected, *, flag="--data", trial="synthetic"):
    """Fetches a file into the last of the folders and checks it.

    Args:
        folders: Where the file was looked for; see `data_folders`.
        algorithm: `md5` or `sha256`.
        expected: The hash as lower-case hexadecimal text.
        flag: The flag that takes another file.
        trial: What that flag takes for a try without any file.

    Returns:
        Path of the file.

    Raises:
        InputError: If the download fails; the message names the ways out.
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
            f"Three ways out: fetch {url} by hand and put it at {folder / file_name}; "
            f"name a file that you have with {flag} PATH; or try the track with {flag} {trial}."
        ) from error
