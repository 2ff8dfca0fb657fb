"""A cache, or a shard of one, while it is written: images, fingerprints and a journal, which grow together."""

import contextlib
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_vision.data.picture_decoding import Decoded

IMAGES, PRINTS, JOURNAL = FILES = ("images.bin", "prints.bin", "journal.jsonl")


class Part:
    """Decoded files in a folder; whatever moment the process dies at, those in the journal can be used.

    Args:
        folder: The folder; it is made where it is missing, but not those above it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._images, self._prints, self._journal = (
                stack.enter_context((folder / name).open("a+b")) for name in FILES
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its files."""
        self._stack.close()

    def intact(self, names: Sequence[str]) -> Iterator[Decoded]:
        """What is there, unchanged and in order; in the end the files are cut after it.

        Args:
            names: The part's files.
        """
        ends, read, count = [0, 0], 0, 0
        self._journal.seek(0)
        with contextlib.suppress(ValueError, LookupError, TypeError):
            for line in self._journal:
                entry = json.loads(line)
                images, prints = (
                    self._read(file, start, end)
                    for file, start, end in zip((self._images, self._prints), ends, entry["bytes"], strict=True)
                )
                decoded = Decoded(images, prints, entry["files"], entry["not_read"])
                expected = names[count : count + len(decoded.files)]
                if _crc(decoded) != entry["crc"] or [file[0] for file in decoded.files] != list(expected):
                    break
                ends, read, count = entry["bytes"], read + len(line), count + len(decoded.files)
                yield decoded
        for file, end in zip((self._images, self._prints, self._journal), (*ends, read), strict=True):
            file.truncate(end)
            file.seek(end)

    @staticmethod
    def _read(file, start, end):
        file.seek(start)
        return file.read(end - start)

    def append(self, decoded: Decoded) -> None:
        """Writes some files; the journal after all else.

        Raises:
            OSError: If they cannot be written.
        """
        self._images.write(decoded.images)
        self._prints.write(decoded.prints)
        self._images.flush()
        self._prints.flush()
        entry = {
            "files": decoded.files,
            "not_read": decoded.not_read,
            "bytes": [self._images.tell(), self._prints.tell()],
            "crc": _crc(decoded),
        }
        self._journal.write(json.dumps(entry).encode() + b"\n")
        self._journal.flush()


def _crc(decoded):
    return zlib.crc32(decoded.prints, zlib.crc32(decoded.images))
