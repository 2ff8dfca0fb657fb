"""Files that are named by an address, such as s3://bucket/photo.jpg, read with fsspec."""

import re

from keras_vision.files.outside import NotReadError, UnreadableError
from keras_vision.recipe import InputError, first_line

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_address(path: str) -> bool:
    """Whether a file is named by an address, and not by its place on this machine."""
    return _ADDRESS.match(path) is not None


def read_bytes(address: str, limit: int) -> bytes:
    """A file's content.

    Args:
        limit: The most bytes that the file may have.

    Raises:
        UnreadableError: If it is empty, larger, or cannot be read.
        InputError: If a package is missing that reads such addresses.
    """
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise InputError(f"{address} is read with fsspec: pip install 'keras-vision[objects]'.") from error
    try:
        with fsspec.open(address, "rb") as file:
            content = file.read(limit + 1)  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:  # "Install s3fs to access S3".
        raise InputError(f"{address} cannot be read: {first_line(error)}.") from error
    except Exception as error:  # Each kind of storage raises its own.
        raise NotReadError(first_line(error).rstrip(".")) from error
    if len(content) > limit:
        raise UnreadableError(f"larger than {limit >> 20} MB")
    if not content:
        raise UnreadableError("empty file")
    return content
