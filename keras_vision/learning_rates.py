"""`--find-learning-rate`: the range test of a recipe, as a track would train it, and the folder that it leaves."""

import dataclasses
import json
from pathlib import Path

import keras

from keras_vision import cli, data, run_folder, track, training

RECORD = run_folder.RANGE_TEST
DOTS_PER_INCH = 110


def find(recipe, out_dir, *, overwrite=False, steps=100):
    """Runs the learning-rate range test of a recipe: its network, optimizer, augmentation, batches and class weights.

    The folder holds the points (`learning_rates.csv`), the curve (`learning_rates.png`), the suggestions with
    everything else (`learning_rates.json`), `recipe.json` and `environment.json`. Nothing else is trained or kept.

    Args:
        recipe: A `recipe.Recipe`.
        out_dir: Folder of the test; it appears when the test is finished.
        overwrite: Whether a finished range test in `out_dir` may be replaced; a finished training never is.
        steps: Learning rates to try, 10 or more.

    Returns:
        A `training.RateCurve`.

    Raises:
        InputError: If the folder is taken, or the data cannot be used.
    """
    spec = recipe.training
    with run_folder.create(out_dir, overwrite=overwrite, record=RECORD) as folder:
        with cli.native_noise_held():  # Keras seeds TensorFlow too, where it is installed, and imports it for that.
            keras.utils.set_random_seed(recipe.seed)
        splits = data.load_splits(recipe.data, recipe.seed)
        track.announce(splits)
        train = track.train_batches(recipe, splits)
        model = track.network(recipe, splits)
        training.compile_model(model, spec, steps_per_epoch=len(train))
        print(
            f"Learning-rate range test of recipe {recipe.name} on {keras.backend.backend()}, {steps} steps.", flush=True
        )
        weights = training.class_weights(splits.train.labels, splits.num_classes, spec.class_weight)
        curve = training.range_test(model, train, steps=steps, class_weight=weights)
        advice = curve.advice(spec.learning_rate)
        _write(folder, recipe, splits, curve, advice)
    print(curve.summary())
    print(f"The recipe's rate: {advice}")
    print(f"Curve: {Path(out_dir) / 'learning_rates.png'}")
    return curve


def _write(folder, recipe, splits, curve, advice):
    track.write_circumstances(folder, recipe, track.environment(), track.data_record(splits))
    record = {**dataclasses.asdict(curve), "recipe_learning_rate": recipe.training.learning_rate, "advice": advice}
    (folder / RECORD).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", "utf-8")
    (folder / "learning_rates.csv").write_text(curve.to_csv(), "utf-8")
    curve.figure(recipe.training.learning_rate).savefig(folder / "learning_rates.png", dpi=DOTS_PER_INCH)
