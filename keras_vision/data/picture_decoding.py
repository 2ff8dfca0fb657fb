"""Image files decoded by threads, chunk by chunk and in order."""

import collections
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_vision.data import fingerprints
from keras_vision.files import image_files, nifti
from keras_vision.files.cores import cores


@dataclass(frozen=True)
class How:
    """How files become images.

    Attributes:
        image_shape: `(H, W, C)`, or `(D, H, W, 1)` for volumes.
        resize: See `image_files.fit`.
        intensity_range: See `image_files.decode`.
    """

    image_shape: tuple[int, ...]
    resize: str
    intensity_range: tuple[float, float] | None


@dataclass(frozen=True)
class Decoded:
    """Some files, decoded.

    Attributes:
        images: uint8 images of those that can be decoded, one after the other; an array, or its bytes.
        prints: Their float32 fingerprints, likewise.
        files: For each file its name, its content's SHA-256 or None, a reason why it is set aside or None, a remark.
        not_read: Names of those whose bytes could not be read.
    """

    images: Any
    prints: Any
    files: list[list]
    not_read: list[str]


def decode_all(root: Path, chunks: Iterable[tuple[int, list[str]]], how: How) -> Iterator[tuple[int, Decoded]]:
    """Decodes chunks in order; only a few are in memory at a time.

    Args:
        root: The folder that the names are relative to.
        chunks: `(key, names)`; one is taken when a thread will soon be free.
        how: How files become images.

    Yields:
        `(key, decoded)` of each chunk.
    """
    workers = cores()
    with image_files.one_thread_each(), ThreadPoolExecutor(workers) as pool:
        waiting = collections.deque()
        try:
            for chunk in itertools.chain(chunks, [None] * 2 * workers):
                if chunk is not None:
                    waiting.append((chunk[0], pool.submit(_decode, root, chunk[1], how)))
                if waiting and (chunk is None or len(waiting) > 2 * workers):
                    key, decoded = waiting.popleft()
                    yield key, decoded.result()
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
        files.append([name, digest, reason, remark])
    # Nobody looks for near duplicates of volumes; their slices in the middle keep the file's layout.
    flat = images[:count, how.image_shape[0] // 2] if len(how.image_shape) == 4 else images[:count]
    return Decoded(images[:count], fingerprints.fingerprints(flat), files, not_read)
