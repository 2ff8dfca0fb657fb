"""Zip archives that come from elsewhere, such as .npz and .keras files: checked before a member is read.

Python's `zipfile` reads no more of a member than the size that the archive states for it, so stated sizes are limits.
"""

import contextlib
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from keras_vision.files import outside
from keras_vision.recipe import InputError, first_line

if TYPE_CHECKING:
    import numpy as np

# A .keras file has three members and perhaps some vocabularies, an .npz file six; a checkpoint of torch one per tensor.
MAX_MEMBERS = 10_000
# DEFLATE reaches 1032 to 1. Images, numbers and text rarely reach 20; blank images do, in files of any sensible size.
MAX_EXPANSION, EXPANDS_FREELY = 100, 2**28
# Whatever a damaged archive makes of the standard library's reader.
ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
    OSError,
)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], *, may_expand: Callable[[], bool] | None = None) -> Iterator[zipfile.ZipFile]:
    """A zip file from elsewhere, checked.

    Args:
        may_expand: Whether the file is known to be what it should be, however much it expands; called only if it does.

    Raises:
        InputError: If it is not a regular file or no archive, or if its members are too many or too large, or are
            links, or their names leave the archive; also, inside the block, if a member is damaged.
    """
    outside.require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check(archive, path, os.path.getsize(path), may_expand)
            yield archive
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path} needs more than this machine's memory.") from error
    except ERRORS as error:
        raise InputError(f"{path} is damaged ({_reason(error)}); the copy may be incomplete.") from error


def _reason(error):
    return getattr(error, "strerror", None) or first_line(error)


def check(
    archive: zipfile.ZipFile,
    where: str | os.PathLike[str],
    size: int,
    may_expand: Callable[[], bool] | None = None,
) -> None:
    """Checks the list of an archive's members.

    Args:
        where: Name of the file in error messages.
        size: The file's bytes.
        may_expand: As for `opened`.

    Raises:
        InputError: If they are too many or too large, or are links, or their names leave the archive.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{where} has {len(members)} members. At most {MAX_MEMBERS} are read.")
    total = sum(member.file_size for member in members)
    if total > max(EXPANDS_FREELY, MAX_EXPANSION * size) and not (may_expand is not None and may_expand()):
        raise InputError(
            f"{where} would expand from {size:,} to {total:,} bytes, more than {MAX_EXPANSION} times; it is not opened."
        )
    if len({member.filename for member in members}) < len(members):
        raise InputError(f"{where} has two members of the same name; it is not opened.")
    for member in members:
        parts = member.filename.replace("\\", "/").split("/")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise InputError(f"{where} has a member outside of it, {member.filename[:80]!r}; it is not opened.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"{where} has a link or a device, {member.filename[:80]!r}; it is not opened.")
        if member.flag_bits & 1:
            raise InputError(f"{where} is encrypted. Save it without a password.")


def read_appended(content: bytes, name: str, limit: int, where: str | os.PathLike[str]) -> bytes | None:
    """A member of an archive that is appended to a file's bytes; None if there is no archive or no such member.

    Raises:
        InputError: If the archive is damaged, or the member has more than `limit` bytes.
    """
    try:
        file = io.BytesIO(content)
        if not zipfile.is_zipfile(file):
            return None
        with zipfile.ZipFile(file) as archive:
            check(archive, where, len(content))
            if name not in archive.namelist():
                return None
            if archive.getinfo(name).file_size > limit:
                raise InputError(f"{where} has a file {name[:80]!r} of more than {limit >> 20} MB.")
            return archive.read(name)
    except InputError:
        raise
    except (*ERRORS, MemoryError) as error:
        raise InputError(f"{where} has a damaged archive of files ({_reason(error)}).") from error


def array_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], "np.dtype"]:
    """Shape and dtype of an .npy file, whose header states as many bytes as the file has.

    Args:
        file: The file, at its beginning; afterwards at its data.
        size: The file's bytes.

    Raises:
        ValueError: If it is no .npy file or has another size.
    """
    import numpy as np

    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format is not read")
    try:
        shape, _, dtype = readers[version](file)
    except Exception as error:  # NumPy parses the header as Python, in two ways.
        raise ValueError("its header is no description of an array") from error
    if dtype.hasobject:  # Their size is not stated.
        return shape, dtype
    count = 1
    for side in shape:
        if not 0 <= side < 2**48:
            raise ValueError(f"its shape is {shape[:8]}")
        count *= side
    stated, there = count * dtype.itemsize, size - file.tell()
    if stated != there:
        raise ValueError(f"its shape {shape[:8]} needs {stated} bytes and there are {there}")
    return shape, dtype
