"""Files that native libraries read are read in a child process first: if that crashes, this process does not.

A library in C or C++ may crash on a damaged file, wait for ever, or ask for all memory. The child does with the file
what the caller is about to do, with limits on memory and time. It stays for the next file.
"""

import atexit
import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from keras_vision.recipe import first_line

SECONDS = 60.0
# Memory that reading a file may take, besides four times the file's size.
MAX_MEMORY = 2**31
# A number and the length of a file that follows; the function's number and the length of an exception's message.
_HEAD, _ANSWER = struct.Struct("<BQ"), struct.Struct("<qI")


class TrialError(RuntimeError):
    """A file that the child does not survive; the message is the reason in a few words."""


class RaisedError(TrialError):
    """A file at which the child's function raises an exception."""


class TooLongError(TrialError):
    """A file that takes longer than `SECONDS`."""


class Trial:
    """A child process that tries files.

    Args:
        module: Name of the module that the child runs; it calls `serve`.
    """

    def __init__(self, module: str) -> None:
        self._module, self._lock = module, threading.Lock()
        self._process: Any = None
        self._parent = 0

    def result(self, content: bytes, mode: int = 0) -> int:
        """The number that the child's function returns for a file.

        Args:
            content: What `serve` hands to its function.
            mode: A number from 0 to 255 for the same.

        Raises:
            RaisedError: If the function raises an exception; the message is the beginning of its own.
            TooLongError: If it takes longer than `SECONDS`.
            TrialError: If the child crashes or needs too much memory.
        """
        with self._lock:
            # A file before this one may have damaged the child's memory, so only a fresh child's end counts.
            fresh = self._start()
            try:
                return self._ask(content, mode)
            except (RaisedError, TooLongError):
                raise
            except TrialError:
                if fresh:
                    raise
            self._start()
            return self._ask(content, mode)

    def _start(self):
        """Starts the child if there is none; whether it did."""
        if self._process is not None and self._parent == os.getpid() and self._process.poll() is None:
            return False
        if self._parent == os.getpid():
            self._end()
        # The same modules as in this process, and none from the working directory.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._parent = os.getpid()
        return True

    def _ask(self, content, mode):
        process, late = self._process, []
        answer = text = b""

        def stop():
            late.append(True)
            process.kill()

        timer = threading.Timer(SECONDS, stop)
        timer.daemon = True
        timer.start()
        try:
            with contextlib.suppress(OSError):  # A broken pipe: the child has ended.
                _write_all(process.stdin, _HEAD.pack(mode, len(content)))
                _write_all(process.stdin, content)
                answer = _read_all(process.stdout, _ANSWER.size)
                if len(answer) == _ANSWER.size:
                    text = _read_all(process.stdout, _ANSWER.unpack(answer)[1])
        except BaseException:
            self._end()
            raise
        finally:
            timer.cancel()
        if len(answer) == _ANSWER.size:
            if text:
                raise RaisedError(text.decode("utf-8", "replace"))
            return _ANSWER.unpack(answer)[0]
        self._end()
        if late:
            raise TooLongError(f"it takes more than {SECONDS:g} seconds")
        raise TrialError("the library that reads such files crashes or needs too much memory")

    def _end(self):
        if self._process is None:
            return
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Ends the child, if it is this process's."""
        if self._parent == os.getpid():
            self._end()


def _write_all(stream, content):
    view = memoryview(content)
    while len(view):
        view = view[stream.write(view) :]


def _read_all(stream, size):
    parts = b""
    while len(parts) < size and (part := stream.read(size - len(parts))):
        parts += part
    return parts


def started(module: str) -> Trial:
    """A `Trial` that ends with this process."""
    trial = Trial(module)
    atexit.register(trial.close)
    return trial


def serve(function: Callable[[bytes, int], int]) -> int:
    """The child process: calls a function with each file, and answers with its number, or its exception's message."""
    # Whatever native code writes to standard output must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    while len(head := sys.stdin.buffer.read(_HEAD.size)) == _HEAD.size:
        mode, size = _HEAD.unpack(head)
        content = sys.stdin.buffer.read(size)
        if len(content) < size:
            break
        _limit_memory(MAX_MEMORY + 4 * size)
        number, text = 0, b""
        try:
            number = function(content, mode)
        except Exception as error:
            text = (first_line(error) or "it raises an error").encode("utf-8", "replace")
        answers.write(_ANSWER.pack(number, len(text)) + text)
    return 0


def _limit_memory(more):
    """Limits this process's memory to what it has and some more, where the system can."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + more if hard == resource.RLIM_INFINITY else min(used + more, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
