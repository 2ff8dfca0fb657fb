"""The test split of a run that was judged on validation: read once, when the choice between runs has been made."""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_vision import data
from keras_vision.files import outside
from keras_vision.models import saved
from keras_vision.pipeline import features, record, track
from keras_vision.pipeline import folder as run_folder
from keras_vision.recipe import InputError, from_dict
from keras_vision.training import torch_state


def judge(run: str | Path, split: str = "test") -> dict[str, Any]:
    """Judges a finished run's model on a split of its data.

    Args:
        run: The run's folder.
        split: Name of the split.

    Returns:
        The metrics as a report has them, with the split's name and its number of images, JSON-ready; those with
        averaging, too, where the recipe has `tta`.

    Raises:
        InputError: If the run's files are damaged, or its data is not what it was trained on.
    """
    run = Path(run)
    recipe = from_dict(outside.read_json(run / run_folder.RECIPE))
    torch_state.flush_denormals()
    track.seed_everything(recipe.seed)
    splits = data.load_splits(recipe.data, recipe.seed)
    if not record.is_data_of(run, splits):
        raise InputError(f"The data of {run} is not what it was trained on, so its {split} split says nothing of it.")
    thresholds = run_folder.thresholds_of(run)
    model: keras.Model = saved.read_model(run / run_folder.MODEL)
    batches = data.Batches(splits.named()[split], splits.num_classes, features.predict_batch(splits.image_shape))
    order = np.array([thresholds[name] for name in splits.class_names]) if splits.several_labels else None
    _, judgement = track.judge(recipe, splits, model, batches, split, order)
    found = {"split": split, "images": len(batches.split), "metrics": judgement.to_dict()}
    if recipe.evaluation.tta != "none":
        averaged = track.judge_averaged(recipe, splits, model, batches, split, order)
        found["averaged_metrics"] = averaged.to_dict()
    return found


def main(run: str, file: str) -> int:
    """Writes the metrics of a run's test split into a file.

    Returns:
        The exit status: 0, or 2 after a user's mistake.
    """
    try:
        found = judge(run)
        temporary = Path(f"{file}.writing")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        run_folder.write_json(temporary, found)
        temporary.rename(file)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
