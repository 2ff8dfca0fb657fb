"""`--find-learning-rate`: the range test of a recipe, as a track would train it, and the folder that it leaves."""

import dataclasses
import os
from pathlib import Path

import keras

from keras_vision import data, training
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import plots, record, track, unfinished
from keras_vision.recipe import Recipe


def find(recipe: Recipe, out: str | os.PathLike, *, overwrite: bool = False, steps: int = 100) -> training.RateCurve:
    """Runs the learning-rate range test of a recipe: its network, optimizer, augmentation, batches and class weights.

    The folder has the points, the curve as a plot, the suggestions, the recipe and the environment. Nothing else is
    trained or kept.

    Args:
        recipe: A `Recipe`.
        out: Folder of the test; it appears when the test is finished.
        overwrite: Whether a finished range test in `out` may be replaced; a finished training never is.
        steps: Learning rates to try, 10 or more.

    Returns:
        A `training.RateCurve`.

    Raises:
        InputError: If the folder is taken, or the data cannot be used.
    """
    spec = recipe.training
    with unfinished.create(out, overwrite=overwrite, record=run_folder.RANGE_TEST) as folder:
        track.seed_everything(recipe.seed)
        splits = data.load_splits(recipe.data, recipe.seed)
        track.announce(splits)
        train = track.train_batches(recipe, splits)
        model = track.network(recipe, splits)
        labels = splits.train.labels
        several = splits.several_labels
        training.compile_model(model, spec, steps_per_epoch=len(train), labels=labels if several else None)
        print(
            f"Learning-rate range test of recipe {recipe.name} on {keras.backend.backend()}, {steps} steps.", flush=True
        )
        weights = None if several else training.class_weights(labels, splits.num_classes, spec.class_weight)
        curve = training.range_test(model, train, steps=steps, class_weight=weights, native=spec.native_operations)
        advice = curve.advice(spec.learning_rate)
        _write(folder, recipe, splits, curve, advice)
    print(curve.summary())
    print(f"The recipe's rate: {advice}")
    print(f"Curve: {Path(out) / run_folder.RANGE_TEST_PLOT}")
    return curve


def _write(folder, recipe, splits, curve, advice):
    record.write_circumstances(folder, recipe, record.environment(), record.data_record(splits))
    (folder / run_folder.RANGE_TEST_CURVE).write_text(curve.to_csv(), "utf-8")
    plot = plots.png(curve.plot(recipe.training.learning_rate))
    (folder / run_folder.RANGE_TEST_PLOT).write_bytes(plot)
    content = {**dataclasses.asdict(curve), "recipe_learning_rate": recipe.training.learning_rate, "advice": advice}
    run_folder.write_json(folder / run_folder.RANGE_TEST, content)
