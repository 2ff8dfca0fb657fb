"""The folder of a run that is under way, `OUT.partial`: locked, resumed by the same command, renamed when whole.

Standard library only, like `folder`.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_vision.files.lock import Lock
from keras_vision.files.new_folder import put_in_place
from keras_vision.pipeline import folder as run_folder
from keras_vision.recipe import InputError, flag

# Inside the folder, what a resumed run needs, and a finished one does not.
RESUME = "resume"
LOCK = "lock"
IDENTITY = "identity.json"
SESSIONS = "sessions"
# Those that come without a file's name: no space, a quota, a file too large, a read-only or broken disk.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@contextlib.contextmanager
def create(
    out: str | os.PathLike,
    identity: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    restart: bool = False,
    record: str = run_folder.REPORT,
) -> Iterator[Path]:
    """Gives the folder `OUT.partial` to write into, and renames it to `out` when the block ends well.

    When the block fails, what was in `out` stays as it was. The partial folder is kept if anything was saved in its
    `resume` folder, for the same command to go on with, and deleted otherwise.

    Args:
        out: Folder of the run to be.
        identity: What must be equal for a run to go on: nested dicts, JSON-ready.
        overwrite, record: See `folder.check`.
        restart: Whether to delete what an interrupted run has saved.

    Raises:
        InputError: If the folder is taken, is in use, or holds another unfinished run; or if the finished folder cannot
            be renamed, which it then names.
    """
    out, partial = Path(out).resolve(), place(out)
    _recover(partial, out)
    run_folder.check(out, overwrite=overwrite, record=record)
    identity = json.loads(json.dumps({"kind": record, **(identity or {})}))
    try:
        _refuse_foreign(partial)
        (partial / RESUME).mkdir(parents=True, exist_ok=True)
        lock = Lock(partial / RESUME / LOCK)
        locked = lock.acquire()
    except OSError as error:
        raise InputError(f"Cannot write to {out.parent}: {error.strerror}. Choose another --out DIR.") from error
    if not locked:
        raise InputError(f"{partial} is in use by another process. Wait for it, or choose another --out DIR.")
    try:
        with _kept_if_it_has_work(partial), _full_disks_are_told(partial):
            _begin(partial, identity, restart=restart)
            yield partial
        _finish(partial, out, overwrite=overwrite, record=record)
    finally:
        lock.release()


def place(out: str | os.PathLike) -> Path:
    """The folder in which a run is while it is under way."""
    out = Path(out).resolve()
    return out.with_name(f"{out.name}.partial")


def has_work(partial: Path) -> bool:
    """Whether a run that was interrupted has left anything to go on with."""
    resume = partial / RESUME
    others = (path for path in resume.glob("*") if path.name not in (LOCK, IDENTITY, SESSIONS))
    return any(path.is_file() or any(path.glob("*.state")) for path in others)


def _recover(partial, out):
    """Puts a replaced run back if a crash left only its new place free: between two renamings."""
    old = partial.with_name(f"{partial.name}.old")
    if old.is_dir() and not out.exists():
        old.rename(out)


def _refuse_foreign(partial):
    if partial.is_dir() and any(partial.iterdir()) and not (partial / RESUME).is_dir():
        raise InputError(f"{partial} holds files that no run has left. Choose another --out DIR.")


@contextlib.contextmanager
def _kept_if_it_has_work(partial):
    try:
        yield
    except BaseException as error:
        if not has_work(partial):
            shutil.rmtree(partial, ignore_errors=True)
        elif not isinstance(error, OtherRunError):
            print(
                f"What is done is kept in {partial}; the same command goes on from there.", file=sys.stderr, flush=True
            )
        raise


@contextlib.contextmanager
def _full_disks_are_told(partial):
    """An error of the disk, or of a file in the folder, is the user's to mend, not a fault of the program."""
    try:
        yield
    except OSError as error:
        inside = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(partial)
        if not inside and error.errno not in DISK_ERRORS:
            raise
        raise InputError(
            f"Cannot write to {error.filename or partial}: {error.strerror}. Mend that and repeat the command."
        ) from error


class OtherRunError(InputError):
    """An unfinished run cannot be gone on with, because something else was asked for."""


def _begin(partial, identity, *, restart):
    """Compares the identities, and empties the folder where there is nothing to go on with."""
    file = partial / RESUME / IDENTITY
    if has_work(partial) and not restart:
        _compare(partial, identity)
        return
    for path in [*partial.iterdir(), *(partial / RESUME).iterdir()]:
        if path.name in (RESUME, LOCK):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_folder.write_json(file, identity)


def check(out: str | os.PathLike, identity: Mapping[str, Any]) -> None:
    """Compares what is known of a run before it begins with the unfinished one that it would go on with.

    Raises:
        InputError: If they differ.
    """
    if has_work(place(out)):
        _compare(place(out), json.loads(json.dumps(identity)))


def _compare(partial, identity):
    if differences := list(_differences(_read(partial / RESUME / IDENTITY), identity)):
        raise OtherRunError(
            f"{partial} holds an unfinished run with other settings: {'; '.join(differences)}. Repeat that command "
            "to go on with it, pass --restart to delete it, or choose another --out DIR."
        )


def require_same(partial: Path, name: str, value: Any) -> None:
    """Adds a part to the identity of a run, or compares it with that of the run that goes on.

    Raises:
        InputError: If they differ.
    """
    file = partial / RESUME / IDENTITY
    identity, value = _read(file), json.loads(json.dumps(value))
    if name in identity:
        if differences := list(_differences(identity[name], value, name)):
            raise OtherRunError(
                f"{partial} holds an unfinished run with other {name}: {'; '.join(differences)}. Pass --restart to "
                "delete it, or choose another --out DIR."
            )
        return
    run_folder.write_json(file, identity | {name: value})


def _read(file):
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _differences(old, new, *path):
    """What differs between two nested dicts, a phrase each; parts that only the old one has are compared later."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in new:
            yield from _differences(old.get(key), new[key], *path, key)
    elif old != new:
        name = path[-1]
        if path[0] == "recipe":
            name = {("name",): "--recipe", ("track",): "track"}.get(path[1:], flag(name))
        yield f"{name} {_short(old)} (now {_short(new)})"


def _short(value):
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 60 else f"{text[:50]}..."


def _finish(partial, out, *, overwrite, record):
    try:
        run_folder.check(out, overwrite=overwrite, record=record)
        put_in_place(partial, out)
    except (OSError, InputError) as error:
        raise InputError(f"The run is finished and is in {partial}; it could not be moved: {error}") from error
    shutil.rmtree(out / RESUME, ignore_errors=True)
