"""Files that hold a program's state: arrays and JSON, with a checksum, replaced whole or not at all."""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

HEAD = b"keras_vision state 1\n"
FACTS = "facts"


class DamagedError(ValueError):
    """A state file that was not written completely, or changed afterwards."""


def write(path: Path, arrays: Mapping[str, "np.ndarray"], facts: Any, *, before: Path | None = None) -> int:
    """Writes a state file, so that a crash at any moment leaves the old file or the new one.

    Args:
        path: The file.
        arrays: Arrays of numbers by name; the name `facts` is taken.
        facts: Anything that JSON can hold; NaN and infinity too.
        before: Where an existing file is moved to; it is replaced by default.

    Returns:
        The file's size in bytes.

    Raises:
        OSError: If it cannot be written; the existing file stays.
    """
    import numpy as np

    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{FACTS: text, **arrays})  # pyright: ignore[reportArgumentType]
    payload = buffer.getbuffer()
    write_bytes(path, HEAD + hashlib.sha256(payload).digest(), payload, before=before)
    return len(HEAD) + 32 + len(payload)


def write_bytes(path: Path, *parts: Any, before: Path | None = None) -> None:
    """Writes bytes like `write`, without a checksum."""
    temporary = path.with_name(f"{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # On a full disk, so that something else may be written.
        raise
    if before is not None and path.exists():
        os.replace(path, before)
    os.replace(temporary, path)
    _flush_folder(path.parent)


def _flush_folder(folder):
    """Makes the renaming itself survive a power cut, where folders can be flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows.
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # Some network file systems.
    finally:
        os.close(descriptor)


def read(path: Path) -> tuple[dict[str, "np.ndarray"], Any]:
    """The arrays and facts of a state file.

    Raises:
        DamagedError: If it is not complete and unchanged.
        OSError: If it cannot be read.
    """
    import numpy as np

    content = path.read_bytes()
    digest, payload = content[len(HEAD) : len(HEAD) + 32], content[len(HEAD) + 32 :]
    if not content.startswith(HEAD) or hashlib.sha256(payload).digest() != digest:
        raise DamagedError(f"{path} is not complete.")
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return arrays, json.loads(arrays.pop(FACTS).tobytes())
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DamagedError(f"{path} does not hold a state: {error}.") from error
