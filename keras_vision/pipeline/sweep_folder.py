"""A sweep's folder: what it is of, its runs, who has claimed them, and what they print. Standard library only."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_vision.files import outside, state_file
from keras_vision.files.lock import Lock
from keras_vision.recipe import InputError

WHAT = "sweep.json"
RUNS, CLAIMS, LOGS, TESTED, OUT_OF_FOLD = "runs", "claims", "logs", "test", "out-of-fold"
PAGE, TABLE, SUMMARY = "sweep.html", "runs.csv", "summary.json"
PATIENCE = 60  # Seconds: whoever holds one of the sweep's own locks writes a few small files.


def check(out: Path, what: Mapping[str, Any]) -> None:
    """Refuses a folder that is not of this sweep.

    Args:
        out: Folder of the sweep; it may be missing.
        what: What all its runs have in common, JSON-ready.

    Raises:
        InputError: If it is another sweep's, or none.
    """
    try:
        if not out.exists():
            return
        if not out.is_dir():
            raise InputError(f"--out needs a folder, but {out} is a file. Choose another with --out DIR.")
        if (out / WHAT).is_file():
            _compare(out, outside.read_json(out / WHAT), json.loads(json.dumps(what)))
        elif any(path.name != CLAIMS for path in out.iterdir()):
            raise InputError(
                f"{out} holds files but no sweep ({WHAT} is missing), so it is left alone. Choose another folder with "
                "--out DIR."
            )
    except OSError as error:
        raise InputError(f"--out {str(out)!r} cannot be used: {error}. Choose another with --out DIR.") from error


def _compare(out, old, new):
    old = old if isinstance(old, dict) else {}
    for name, value in new.items():
        if old.get(name) != value:
            raise InputError(
                f"{out} was begun with other {name}: {_shown(old.get(name))} (now {_shown(value)}). Its finished runs "
                "would not be comparable. Repeat that command, or choose another --out DIR."
            )


def _shown(value):
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def begin(out: Path, what: Mapping[str, Any]) -> None:
    """Makes the folder, or checks that it is of this sweep.

    Raises:
        InputError: If it is not, or cannot be written to.
    """
    try:
        with held(out, "sweep"):
            check(out, what)
            if not (out / WHAT).is_file():
                state_file.write_bytes(out / WHAT, (json.dumps(what, indent=2) + "\n").encode())
    except OSError as error:
        raise InputError(f"Cannot write to {out}: {error.strerror}. Choose another --out DIR.") from error


@contextlib.contextmanager
def held(out: Path, name: str) -> Iterator[None]:
    """Holds one of the sweep's own locks, after waiting for it.

    Raises:
        InputError: If another process keeps it.
        OSError: If it cannot be written.
    """
    (out / CLAIMS).mkdir(parents=True, exist_ok=True)
    lock, ends = Lock(out / CLAIMS / f"{name}.of-the-sweep"), time.monotonic() + PATIENCE
    while not lock.acquire():
        if time.monotonic() > ends:
            raise InputError(f"{out} is in use by another process, which does not end. Choose another --out DIR.")
        time.sleep(0.05)
    try:
        yield
    finally:
        lock.release()
