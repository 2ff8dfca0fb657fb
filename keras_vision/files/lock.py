"""A lock that ends with its process, however that ends."""

import errno
import os
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None


# How systems say that another process has the lock. Anything else is an error, such as a file system without locks.
HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class Lock:
    """An exclusive lock on a file.

    Where a folder is shared, other machines respect it too: NFS from version 4 on, and most file systems of clusters.

    Args:
        path: The file; it is made where it is missing, and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def acquire(self) -> bool:
        """Takes the lock; False if another process has it.

        Raises:
            OSError: If the file cannot be opened, or its file system has no locks.
        """
        file = self.path.open("a+b")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        except OSError as error:
            file.close()
            if error.errno not in HELD:
                raise
            return False
        # The file's name may have gone to a new file since it was opened.
        same = self.path.exists() and os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        if not same:
            file.close()
            return False
        self._file = file
        return True

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._file is not None

    def inherited(self) -> tuple[int, ...]:
        """What a child process must be passed, `pass_fds`, to hold the lock as well; nothing where that is unknown.

        The lock then ends when both have ended.
        """
        return () if self._file is None or fcntl is None else (self._file.fileno(),)

    def release(self) -> None:
        """Gives the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None
