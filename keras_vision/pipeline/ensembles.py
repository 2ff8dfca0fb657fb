"""An ensemble of finished runs, judged like a run."""

import os
from collections.abc import Sequence
from pathlib import Path

from keras_vision.pipeline import members, track
from keras_vision.pipeline.track import RunResult
from keras_vision.recipe import InputError, override

FEWEST = 2


def make(runs: Sequence[str], out: str | os.PathLike, *, overwrite: bool = False) -> RunResult:
    """Makes a run of finished ones: its probabilities are the mean of theirs.

    Args:
        runs: Folders of at least two runs that have the same images in each split, one label an image.
        out: Folder of the run.
        overwrite: Whether a finished run in `out` may be replaced.

    Returns:
        A `RunResult`, without a history.

    Raises:
        InputError: If there are fewer, or one is no finished run, or has other data or splits.
    """
    if len(runs) < FEWEST:
        raise InputError(f"An ensemble has at least {FEWEST} runs. Received: {', '.join(map(str, runs)) or 'none'}.")
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise InputError(f"An ensemble has each run once. Received: {', '.join(map(str, runs))}.")
    first = members.recipe_of(runs[0])
    recipe = override(first, calibrate=False, explain="none", qat=False, tflite=False, export=None, profile=False)
    recipe = override(recipe, tta="none", tracker="none", teachers=None)
    names = tuple(Path(run).resolve().name for run in runs)
    return track.run(
        override(recipe, name="ensemble"),
        out,
        overwrite=overwrite,
        member_names=names,
        made=lambda splits: members.network(runs, first, splits),
    )
