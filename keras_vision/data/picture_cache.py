"""Image files decoded once, in parallel, into a memory-mapped file that later runs reuse.

A cache is a folder under Keras's home: `images.bin`, uint8, image after image; `prints.bin`, float32, their
fingerprints (`fingerprints.py`); `index.json`, their description. It is written under a temporary name, by all
processes that want it (`shared_decoding.py`), and renamed when it is complete; a decoding that was interrupted goes on.
The package never deletes a cache.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_vision.data import fingerprints, shared_decoding
from keras_vision.data.picture_decoding import How
from keras_vision.data.rows import Rows
from keras_vision.files import image_files
from keras_vision.files.download import keras_home
from keras_vision.recipe import InputError

VERSION = 2  # Raise it when the same files yield other pixels or other fingerprints.


@dataclass(frozen=True)
class PictureCache:
    """Decoded images on disk.

    Attributes:
        folder: The cache's folder.
        names: Names of the files, row by row.
        digests: SHA-256 of each file's content, row by row.
        set_aside: `{name: reason}` of the files that could not be decoded.
        remarks: `{name: text}` of the files whose content does not match their extension, or whose values are unusual.
        sha256: Hash of the names and contents of all files.
        images: Memory-mapped uint8 array, shape `(N, H, W, C)` or `(N, D, H, W, 1)`.
        prints: Memory-mapped float32 array, shape `(N, *fingerprints.SHAPE)`.
        not_read: Names of those in `set_aside` whose bytes could not be read; later runs try them again.
        forget: Function that releases the memory of the pages of `images` that were read.
    """

    folder: Path
    names: list[str]
    digests: list[str]
    set_aside: dict[str, str]
    remarks: dict[str, str]
    sha256: str
    not_read: list[str]
    images: np.ndarray
    prints: np.ndarray
    forget: Callable[[], None] | None

    def rows(self, index: Sequence[int] | np.ndarray) -> Rows:
        """Some of the images, for a split."""
        return Rows(self.images, index, self.prints, self.forget)


def home() -> Path:
    """Folder of all caches."""
    return keras_home("keras_vision")


def cached(
    root: Path,
    names: list[str],
    image_shape: tuple[int, ...],
    resize: str,
    *,
    strict: bool = False,
    intensity_range: tuple[float, float] | None = None,
) -> PictureCache:
    """Decoded images of some files, from an earlier run if possible.

    Args:
        root: The folder that the names are relative to.
        names: Files to read.
        image_shape: `(H, W, C)` of every image after resizing; `(D, H, W, 1)` for volumes, from NIfTI files.
        resize: See `image_files.fit`.
        strict: Whether a file that cannot be decoded is an error.
        intensity_range: See `image_files.decode`.

    Raises:
        InputError: If the cache cannot be written, or a file cannot be decoded with `strict`.
    """
    how = How(image_shape, resize, intensity_range)
    folder = home() / f"{root.resolve().name}-{_key(root, names, how)}"

    def is_there():
        cache = _open(folder, image_shape)
        return cache is not None and not any(map(_can_be_read, (root / name for name in cache.not_read)))

    if not is_there():
        _make(folder, root, names, how, strict, is_there)
    cache = _open(folder, image_shape)
    if cache is None:
        raise InputError(f"{folder} was written but cannot be read back. Set KERAS_HOME to another folder.")
    if strict and cache.set_aside:
        shared_decoding.refuse(*next(iter(cache.set_aside.items())))
    return cache


def _key(root, names, how):
    files = [(name, *_size_and_time(root / name)) for name in names]
    # A file that needed a package is tried again when that is installed.
    decoders = image_files.decoders()
    identity = [VERSION, fingerprints.VERSION, decoders, str(root.resolve()), *dataclasses.astuple(how), files]
    # Names may contain bytes that are not text; Python represents them by surrogates that UTF-8 cannot encode.
    text = json.dumps(identity).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def _size_and_time(path):
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return -1, -1  # A broken link, for example; reading it later reports the reason.


def _can_be_read(path):
    with contextlib.suppress(image_files.UnreadableError):
        return bool(image_files.read_bytes(path))
    return False


def _open(folder, image_shape):
    """The cache in a folder; None if there is none or it is incomplete."""
    try:
        index = json.loads((folder / "index.json").read_text("utf-8"))
        count = len(index["names"])
        images, forget = _mapped(folder / "images.bin", np.uint8, (count, *image_shape))
        prints, _ = _mapped(folder / "prints.bin", np.float32, (count, *fingerprints.SHAPE))
        return PictureCache(folder, **index, images=images, prints=prints, forget=forget)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _mapped(path, dtype, shape):
    """The array in a file, and a function that releases the pages of it that were read.

    Pages of a mapped file count as the process's memory until they are needed elsewhere, so it would look as if a whole
    epoch were in memory.
    """
    if not shape[0]:
        return np.empty(shape, dtype), None  # An empty file cannot be mapped.
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    forget = functools.partial(mapping.madvise, mmap.MADV_DONTNEED) if hasattr(mmap, "MADV_DONTNEED") else None
    return np.frombuffer(mapping, dtype).reshape(shape), forget


def _make(folder, root, names, how, strict, is_there):
    """Decodes all files into the folder, which appears when it is complete; shares the work with other processes."""
    print(f"Decoding {len(names):,} files of {root} into {folder}", flush=True)
    try:
        shared_decoding.decode(shared_decoding.Task(folder, root, names, how, strict), is_there)
    except OSError as error:
        needed = len(names) * int(np.prod(how.image_shape)) >> 20
        raise InputError(
            f"The decoded images ({needed:,} MB) cannot be written to {folder.parent}: {error.strerror or error}. "
            "Set KERAS_HOME to a folder with enough space."
        ) from error
