"""Image files decoded once, in parallel, into a memory-mapped file that later runs reuse.

A cache is a folder under Keras's home: `images.bin`, uint8, image after image; `prints.bin`, float32, their
fingerprints (`fingerprints.py`); `index.json`, their description. It is written under a temporary name and renamed when
it is complete; a decoding that was interrupted goes on. The package never deletes a cache.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import mmap
import os
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_vision.data import fingerprints
from keras_vision.data.rows import Rows
from keras_vision.files import image_files, nifti
from keras_vision.files.download import keras_home
from keras_vision.files.lock import Lock
from keras_vision.files.new_folder import put_in_place
from keras_vision.recipe import InputError

VERSION = 2  # Raise it when the same files yield other pixels or other fingerprints.
CHUNK = 32  # Files that a thread decodes at a time.


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
    how = _How(image_shape, resize, intensity_range)
    folder = home() / f"{root.resolve().name}-{_key(root, names, how)}"
    cache = _open(folder, image_shape)
    if cache is None or any(map(_can_be_read, (root / name for name in cache.not_read))):
        _make(folder, root, names, how, strict)
        cache = _open(folder, image_shape)
    if cache is None:
        raise InputError(f"{folder} was written but cannot be read back. Set KERAS_HOME to another folder.")
    if strict and cache.set_aside:
        _refuse(*next(iter(cache.set_aside.items())))
    return cache


@dataclass(frozen=True)
class _How:
    """How files become images."""

    image_shape: tuple[int, ...]
    resize: str
    intensity_range: tuple[float, float] | None


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


def _make(folder, root, names, how, strict):
    """Decodes all files into the folder, which appears when it is complete."""
    print(f"Decoding {len(names):,} files of {root} into {folder}", flush=True)
    try:
        with _partial(folder) as partial:
            _write(partial, root, names, how, strict)
            put_in_place(partial, folder)  # It may replace a damaged cache, or one with unread files.
    except OSError as error:
        needed = len(names) * int(np.prod(how.image_shape)) >> 20
        raise InputError(
            f"The decoded images ({needed:,} MB) cannot be written to {folder.parent}: {error.strerror or error}. "
            "Set KERAS_HOME to a folder with enough space."
        ) from error


@contextlib.contextmanager
def _partial(folder):
    """A folder to write into: the one of an interrupted decoding of the same files, unless another process uses it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".partial-{folder.name}")
    partial.mkdir(exist_ok=True)
    lock = Lock(partial / "lock")
    if not lock.acquire():
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        yield partial
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        lock.release()
    shutil.rmtree(partial, ignore_errors=True)  # There if another process was first.


def _write(partial, root, names, how, strict):
    index = {"names": [], "digests": [], "set_aside": {}, "remarks": {}, "not_read": []}
    digest, started = hashlib.sha256(), time.perf_counter()

    def note(files, not_read):
        index["not_read"] += not_read
        for name, content_digest, reason, remark in files:
            digest.update(json.dumps([name, content_digest]).encode())
            if reason is not None and strict:
                _refuse(name, reason)
            if reason is not None:
                index["set_aside"][name] = reason
                continue
            index["names"].append(name)
            index["digests"].append(content_digest)
            if remark:
                index["remarks"][name] = remark

    files = [(partial / name).open("a+b") for name in ("images.bin", "prints.bin", "journal.jsonl")]
    with contextlib.ExitStack() as stack:
        images, prints, journal = map(stack.enter_context, files)
        before = 0
        for entry in _journal(images, prints, journal):
            note(entry["files"], entry["not_read"])
            before += len(entry["files"])
        if before:
            print(f"Going on after {before:,} files that were decoded before", flush=True)
        for done, decoded in _decode_all(root, names[before:], how):
            note(decoded.files, decoded.not_read)
            images.write(decoded.images)
            prints.write(decoded.prints)
            images.flush()
            prints.flush()
            entry = {"files": decoded.files, "not_read": decoded.not_read, "bytes": [images.tell(), prints.tell()]}
            entry["crc"] = zlib.crc32(decoded.prints, zlib.crc32(decoded.images))
            journal.write(json.dumps(entry).encode() + b"\n")
            journal.flush()
            _progress(before + done, len(names), started, before)
    index["sha256"] = digest.hexdigest()
    for name in ("journal.jsonl", "lock"):
        (partial / name).unlink(missing_ok=True)
    (partial / "index.json").write_text(json.dumps(index), "utf-8")


def _journal(images, prints, journal):
    """The entries of an interrupted decoding whose images are there, unchanged; cuts the files after them."""
    entries, ends, read = [], [0, 0], 0
    journal.seek(0)
    with contextlib.suppress(ValueError, LookupError, TypeError):
        for line in journal:
            entry = json.loads(line)
            crc = 0
            for file, start, end in zip((images, prints), ends, entry["bytes"], strict=True):
                file.seek(start)
                crc = zlib.crc32(file.read(end - start), crc)
            if crc != entry["crc"]:
                break
            entries.append(entry)
            ends, read = entry["bytes"], read + len(line)
    for file, end in zip((images, prints, journal), (*ends, read), strict=True):
        file.truncate(end)
        file.seek(end)
    return entries


def _refuse(name, reason):
    raise InputError(f"--strict: {name}: {reason}. Repair or remove it, or omit --strict to set it aside.")


@dataclass(frozen=True)
class _Decoded:
    """A chunk's images and fingerprints; for each file its name, its content's hash, a reason or None, a remark."""

    images: np.ndarray
    prints: np.ndarray
    files: list[tuple]
    not_read: list[str]


def _decode_all(root, names, how):
    """`(files done, _Decoded)` chunk by chunk, in order; only a few chunks are in memory at a time."""
    chunks = (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    done = 0
    with image_files.one_thread_each(), ThreadPoolExecutor(workers) as pool:
        waiting = collections.deque()
        try:
            for chunk in itertools.chain(chunks, [None] * 2 * workers):
                if chunk is not None:
                    waiting.append(pool.submit(_decode, root, chunk, how))
                if waiting and (chunk is None or len(waiting) > 2 * workers):
                    decoded = waiting.popleft().result()
                    done += len(decoded.files)
                    yield done, decoded
        finally:
            pool.shutdown(cancel_futures=True)


def _decode(root, names, how):
    images, files, not_read = np.empty((len(names), *how.image_shape), np.uint8), [], []
    count = 0
    read = nifti.with_remarks if len(how.image_shape) == 4 else image_files.with_remarks
    for name in names:
        digest = reason = None
        remark = ""
        try:
            content = image_files.read_bytes(root / name)
            digest = hashlib.sha256(content).hexdigest()
            images[count], remark = read(content, how.image_shape, how.resize, how.intensity_range, name=name)
            count += 1
        except image_files.UnreadableError as error:
            reason = str(error)
            not_read += [name] if isinstance(error, image_files.NotReadError) else []
        files.append((name, digest, reason, remark))
    # Nobody looks for near duplicates of volumes; their slices in the middle keep the file's layout.
    flat = images[:count, how.image_shape[0] // 2] if len(how.image_shape) == 4 else images[:count]
    return _Decoded(images[:count], fingerprints.fingerprints(flat), files, not_read)


def _progress(done, total, started, before):
    """One line that is updated on a terminal; elsewhere a line per tenth of the files."""
    rate = f"{(done - before) / max(1e-9, time.perf_counter() - started):,.0f} a second"
    if sys.stdout.isatty():
        print(f"\r{done:,} of {total:,} files, {rate} ", end="\n" if done == total else "", flush=True)
    elif done == total or (10 * done // total > 10 * max(0, done - CHUNK) // total and total > 20 * CHUNK):
        print(f"{done:,} of {total:,} files, {rate}", flush=True)
