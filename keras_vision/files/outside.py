"""Reads files that come from elsewhere: regular files only, never more than a limit, one sentence for everything else.

Standard library only, so that the command line can read files before Keras is imported.
"""

import json
import os
import stat
from typing import Any

from keras_vision.recipe import InputError

# A flatbuffer's offsets reach 2 GB; models for phones are smaller by far.
MAX_MODEL_BYTES = 2**31
# Predictions take about 100 bytes an image, so this is a test split of millions; reports and cards take kilobytes.
MAX_TEXT_BYTES, MAX_JSON_BYTES = 2**28, 2**24
# Names of ImageNet's 21,841 classes take half a megabyte.
MAX_NAMES_BYTES = 2**22


class UnreadableError(ValueError):
    """A file that cannot be decoded; the message is the reason in a few words."""


class NotReadError(UnreadableError):
    """A file whose bytes could not be read; another attempt may succeed."""


def read_regular(path: str | os.PathLike[str], limit: int, count: int | None = None) -> bytes:
    """A regular file's content. Pipes, devices and folders are refused without waiting for them.

    Args:
        limit: The most bytes that the file may have.
        count: How many bytes are read from its start; all by default.

    Raises:
        UnreadableError: If it is not a regular file, empty, larger than `limit` bytes, or cannot be read.
    """
    try:
        with open(path, "rb", buffering=0, opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError("not a regular file")
            if status.st_size > limit:
                raise UnreadableError(f"larger than {limit >> 20} MB")
            content = _read_at_most(file, status.st_size, limit) if count is None else file.read(count)
    except OSError as error:
        raise NotReadError((error.strerror or str(error)).lower()) from error
    except UnreadableError:
        raise
    except ValueError as error:  # A null character in the name.
        raise NotReadError(str(error)) from error
    if not content:
        raise UnreadableError("empty file")
    return content


def _read_at_most(file, stated, limit):
    """A file's content, whatever size it states: a file of /proc states 0."""
    parts, size = [], 0
    while part := file.read(max(stated - size, 1 << 16)):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise UnreadableError(f"larger than {limit >> 20} MB")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _without_waiting(path, flags):
    # Opening a named pipe would block until there is a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_bytes(path: str | os.PathLike[str], limit: int = MAX_MODEL_BYTES) -> bytes:
    """A file's bytes.

    Raises:
        InputError: If there is no such file, it is not a regular file, it is too large, or it cannot be read.
    """
    try:
        return read_regular(path, limit)
    except UnreadableError as error:
        raise InputError(f"Cannot read {path}: {error}.") from error


def read_text(path: str | os.PathLike[str], errors: str = "strict", *, limit: int = MAX_TEXT_BYTES) -> str:
    """A file's text, UTF-8 with or without a byte order mark.

    Args:
        errors: What to do with other bytes, as `bytes.decode` names it.
        limit: The most bytes that are read.

    Raises:
        InputError: If it cannot be read, is too large or is not UTF-8.
    """
    try:
        return read_bytes(path, limit).decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}.") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file.

    Raises:
        InputError: If it cannot be read or is no JSON.
    """
    try:
        return json.loads(read_text(path, limit=MAX_JSON_BYTES))
    except RecursionError as error:
        raise InputError(f"{path} is damaged: its JSON is nested too deeply.") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}.") from error


def require_regular(path: str | os.PathLike[str]) -> None:
    """Refuses what is not a regular file, for libraries that open files by themselves.

    Raises:
        InputError: If it is a folder, a pipe or a device, does not exist, or its name is impossible.
    """
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}: {(getattr(error, 'strerror', None) or str(error)).lower()}.") from error
    if not regular:
        raise InputError(f"Cannot read {path}: not a regular file.")
