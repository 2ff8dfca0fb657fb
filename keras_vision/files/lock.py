"""A lock that ends with its process, however that ends."""

import os
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None


class Lock:
    """An exclusive lock on a file.

    Args:
        path: The file; it is made where it is missing, and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def acquire(self) -> bool:
        """Takes the lock; False if another process has it."""
        file = self.path.open("a+b")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        except OSError:
            file.close()
            return False
        # The file's name may have gone to a new file since it was opened.
        same = self.path.exists() and os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        if not same:
            file.close()
            return False
        self._file = file
        return True

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None
