"""Finished runs as one network: the members of an ensemble, or the teachers of another run."""

import os
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_vision import data, models
from keras_vision.data import split_file
from keras_vision.files import outside
from keras_vision.models import saved
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import record
from keras_vision.recipe import InputError, Recipe, from_dict


def recipe_of(run: str | os.PathLike) -> Recipe:
    """The recipe of a finished run.

    Raises:
        InputError: If it is none.
    """
    run_folder.read_run(run)  # What is no finished run is refused here.
    return from_dict(outside.read_json(Path(run) / run_folder.RECIPE))


def network(runs: Sequence[str], recipe: Recipe, splits: data.Splits) -> keras.Model:
    """The network of one run, or of several together, from images to logits.

    Args:
        runs: Folders of finished runs.
        recipe: The recipe that the splits were loaded by.
        splits: The data that it will be judged or used on.

    Raises:
        InputError: If a run has other images, classes or splits, so that it may have been trained on images that judge
            it here.
    """
    if splits.several_labels:
        raise InputError("Ensembles and teachers are for one class an image; here images can have several labels.")
    members = []
    for run in runs:
        _require_same_splits(run, recipe, splits)
        member = saved.read_model(Path(run) / run_folder.MODEL)
        if tuple(member.input_shape[1:]) != tuple(splits.image_shape):
            raise InputError(f"{run} takes images of shape {member.input_shape[1:]}, not {splits.image_shape}.")
        members.append(member)
    return members[0] if len(members) == 1 else models.averaged(members)


def _require_same_splits(run, recipe, splits):
    own = recipe_of(run)
    # As it is now, which may not be what the run was made of.
    loaded = splits if (own.data, own.seed) == (recipe.data, recipe.seed) else data.load_splits(own.data, own.seed)
    if not record.is_data_of(run, loaded) or _facts(loaded) != _facts(splits):
        raise InputError(
            f"{run} has other images in its splits: it may have been trained on images that judge it here. "
            "Folders are split by the seed, so train the others with --splits RUN/splits.csv of one of them."
        )


def _facts(splits):
    return record.data_identity(splits), split_file.text_of(splits), splits.class_names
