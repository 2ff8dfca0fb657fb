"""Some rows of an array on disk, read only when they are indexed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np


class Rows:
    """Images of one split in a memory-mapped cache; like an array, but never in memory as a whole.

    Indexing returns an array in memory: index one batch at a time.

    Args:
        stored: Array on disk, shape `(M, H, W, C)`.
        rows: Ints, shape `(N,)`: which rows these are, in which order.
        prints: Fingerprints of all stored images, for the search for duplicates, shape `(M, ...)`.
        forget: Called after every read; releases the pages that were read.
    """

    def __init__(
        self,
        stored: np.ndarray,
        rows: Sequence[int] | np.ndarray,
        prints: np.ndarray | None = None,
        forget: Callable[[], None] | None = None,
    ) -> None:
        self._stored, self._rows, self._prints = stored, np.asarray(rows, np.int64), prints
        self._forget = forget
        self.shape = (len(self._rows), *stored.shape[1:])
        self.dtype, self.ndim = stored.dtype, stored.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        images = np.array(self._stored[self._rows[index]])
        if self._forget is not None:
            self._forget()
        return images

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[row] for row in range(len(self)))

    def __array__(self, *arguments, **keywords):
        raise TypeError(
            f"These {len(self)} images are on disk and may not fit into memory: index them, a batch at a time."
        )

    def select(self, index: Any) -> "Rows":
        """The rows at an index, still on disk."""
        return Rows(self._stored, self._rows[index], self._prints, self._forget)

    def joined(self, others: "Sequence[Rows]") -> "Rows":
        """These rows and then others of the same array."""
        rows = [part._rows for part in (self, *others) if part._stored is self._stored]
        if len(rows) <= len(others):
            raise ValueError("Rows of different arrays cannot be joined.")
        return Rows(self._stored, np.concatenate(rows), self._prints, self._forget)

    @property
    def prints(self) -> np.ndarray | None:
        """Fingerprints of these rows, in memory; None if there are none."""
        return None if self._prints is None else self._prints[self._rows]


def select(images: np.ndarray | Rows, index: Any) -> np.ndarray | Rows:
    """Some of a split's images: `Rows` stay on disk, an array is indexed."""
    return images.select(index) if isinstance(images, Rows) else images[index]


def joined(parts: Sequence[np.ndarray | Rows]) -> np.ndarray | Rows:
    """The images of several splits of the same data, one after the other."""
    first, *others = parts
    if isinstance(first, Rows):
        return first.joined([part for part in others if isinstance(part, Rows)])
    return np.concatenate([np.asarray(part) for part in parts])
