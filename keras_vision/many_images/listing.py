"""Which images there are to predict: a folder's or a list's, written down once, compared when the work goes on."""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_vision.files import addresses, image_files, outside
from keras_vision.files.walk import files_under
from keras_vision.recipe import InputError, printable


@dataclass(frozen=True)
class Listing:
    """What a folder or a list holds: how many images, and a hash of their places."""

    images: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """A part of a listing: `count` lines of its file, from the byte `start` on."""

    index: int
    start: int
    count: int


def scan(source: str, place: Path | None = None) -> Listing:
    """Goes through a folder or a list, path by path.

    Args:
        source: A folder, whose images are taken as `keras-vision predict` takes them, or a text file with a path or an
            address a line.
        place: Where the paths are written, each as a line of JSON; they may contain anything.

    Raises:
        InputError: If there is no such folder or list, or it has no images.
    """
    digest, count = hashlib.sha256(), 0
    with contextlib.ExitStack() as stack:
        file = None if place is None else stack.enter_context(place.open("w", encoding="ascii"))
        for path in _paths(source):
            # Relative paths are other files in another working directory.
            whole = path if addresses.is_address(path) else os.path.abspath(path)
            digest.update(json.dumps(whole).encode())
            count += 1
            if file is not None:
                file.write(json.dumps(path) + "\n")
    if not count:
        raise InputError(f"{source} has no image files.")
    return Listing(count, digest.hexdigest())


def _paths(source):
    path = Path(source)
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise InputError(f"{source} does not exist.")
    if image_files.is_image(path):
        raise InputError(f"--shards takes a folder, or a text file with a path a line. Received the image {source}.")
    outside.require_regular(path)
    return _of_list(path)


def _of_folder(folder):
    others, shown = 0, []
    for path in files_under(folder):
        if image_files.is_image(path):
            yield str(path)
        else:
            others += 1
            shown += [str(path.relative_to(folder))] if len(shown) < 3 else []
    if others:
        names = ", ".join(shown) + (", ..." if others > 3 else "")
        what = "1 file is no image" if others == 1 else f"{others:,} files are no images"
        print(f"{folder}: {what} and left out: {printable(names)}", file=sys.stderr)


def _of_list(path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number == 0:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if b"\0" in line:
                raise InputError(f"{path} is no text file: line {number + 1} has a null character.")
            if line := line.rstrip(b"\r\n"):
                yield os.fsdecode(line)


def divide(place: Path, images: int, shards: int) -> list[Shard]:
    """Divides the file that `scan` wrote into shards of equal size, to one image."""
    starts = [index * images // shards for index in range(shards + 1)]
    found, offset = [], 0
    with place.open("rb") as file:
        for index in range(shards):
            start, count = offset, starts[index + 1] - starts[index]
            for _ in range(count):
                offset += len(file.readline())
            found.append(Shard(index, start, count))
    return found


def paths_of(place: Path, shard: Shard) -> Iterator[str]:
    """The paths of a shard."""
    with place.open("rb") as file:
        file.seek(shard.start)
        for _ in range(shard.count):
            yield json.loads(file.readline())
