"""A run's folder: written whole under a temporary name, then renamed, so that a reader never sees half a run."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from keras_vision.recipe import InputError

# The last word of a run, by which a finished one is known: a training's and a learning-rate range test's.
TRAINING = "report.json"
RANGE_TEST = "learning_rates.json"
MODEL = "model.keras"


def check(out, *, overwrite=False, record=TRAINING):
    """Says no before hours of work, not after.

    Args:
        out: Folder of the run to be.
        overwrite: Whether a finished run may be replaced.
        record: File that a finished run of the same kind has; one of another kind is never replaced.

    Raises:
        InputError: If `out` holds a finished run and `overwrite` is off, or anything that is no run of this kind.
    """
    out = Path(out)
    try:
        if not out.exists() and not out.is_symlink():
            return
        if not out.is_dir():
            raise InputError(f"--out needs a folder, but {out} is a file. Choose another with --out DIR.")
        if not any(out.iterdir()):
            return
        finished = (out / record).is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"--out {str(out)!r} cannot be used: {error}. Choose another with --out DIR.") from error
    if not finished:
        raise InputError(
            f"{out} holds files but no finished run of this kind ({record} is missing), so it is left alone. "
            "Choose another folder with --out DIR."
        )
    if not overwrite:
        raise InputError(f"{out} holds a finished run. Choose another folder with --out DIR, or pass --overwrite.")


@contextlib.contextmanager
def create(out, *, overwrite=False, record=TRAINING):
    """Gives a folder to write into, beside `out`, and puts it in `out`'s place when the block ends well.

    The arguments are those of `check`.

    When the block fails, what stood in `out` stays as it was, and the folder goes away, unless it holds a trained
    model: then it is kept and named. When only the last step fails, because somebody else has filled `out` meanwhile,
    say, the finished folder is kept and named.
    """
    check(out, overwrite=overwrite, record=record)
    out = Path(out).resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{out.name}.partial-", dir=out.parent))
    except OSError as error:
        raise InputError(f"Cannot write to {out.parent}: {error.strerror}. Choose another --out DIR.") from error
    try:
        yield partial
    except BaseException:
        if (partial / MODEL).is_file():
            print(f"The run was not finished; its trained model is kept in {partial}.", file=sys.stderr)
        else:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    open_to_others(partial)
    try:
        check(out, overwrite=overwrite, record=record)
        _replace(partial, out)
    except (OSError, InputError) as error:
        raise InputError(f"The run is finished and lies in {partial}; it could not be moved: {error}") from error


def open_to_others(folder):
    """Makes a folder of `mkdtemp`, which its owner alone can read, as public as the umask says."""
    folder.chmod(0o777 & ~_umask())


def model_file(run):
    """The model of a finished run.

    Args:
        run: The run's folder, or a .keras file itself.

    Raises:
        InputError: If there is none.
    """
    run = Path(os.path.expanduser(run))
    file = run / MODEL if run.is_dir() else run
    if not file.is_file():
        raise InputError(f"--init-from takes a run's folder with a {MODEL}, or a .keras file. Received: {run}.")
    return file


def _replace(partial, out):
    if not out.exists():
        partial.rename(out)
        return
    old = partial.with_name(partial.name + ".old")
    out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
