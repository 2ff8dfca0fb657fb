"""Some rows of an array on disk, read only when they are asked for."""

import numpy as np


class Rows:
    """Images of one split in a memory-mapped cache: looks like their array, and is never in memory as a whole.

    What indexing gives is an array in memory; ask for a batch at a time.

    Args:
        stored: Array on disk, shape `(M, H, W, C)`.
        rows: Int array, shape `(N,)`: which rows these are, in which order.
        prints: Fingerprints of all stored images, for the search for duplicates, shape `(M, ...)`.
        forget: Called after images were read: what gives their pages back.
    """

    def __init__(self, stored, rows, prints=None, forget=None):
        self._stored, self._rows, self._prints = stored, np.asarray(rows, np.int64), prints
        self._forget = forget
        self.shape = (len(self._rows), *stored.shape[1:])
        self.dtype, self.ndim = stored.dtype, stored.ndim

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        images = np.array(self._stored[self._rows[index]])
        if self._forget is not None:
            self._forget()
        return images

    def __iter__(self):
        return (self[row] for row in range(len(self)))

    def __array__(self, *arguments, **keywords):
        raise TypeError(
            f"These {len(self)} images lie on disk and may be more than memory holds: index them, a batch at a time."
        )

    def select(self, index):
        """The rows that an index picks, on disk still."""
        return Rows(self._stored, self._rows[index], self._prints, self._forget)

    @property
    def prints(self):
        """The fingerprints of these rows, an array in memory; None where there are none."""
        return None if self._prints is None else self._prints[self._rows]


def select(images, index):
    """Some of a split's images: rows on disk stay there, an array's are copied."""
    return images.select(index) if isinstance(images, Rows) else images[index]
