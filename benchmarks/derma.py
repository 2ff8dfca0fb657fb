"""The skin-lesion results: recipes over seeds, the training of the DermaMNIST notebook, and an ablation.

Run:     python benchmarks/derma.py --data FILE.npz [--seeds 3] [--quick]            the table of recipes
         python benchmarks/derma.py --data FILE.npz --what ingredients               `best` with one part taken out
         python benchmarks/derma.py --data FILE.npz --what tradeoff                  `best` with adjusted logits
Every training is a process of its own with one thread, --jobs of them at once; a finished one is not repeated. The
table of recipes is evaluated on the test split; the other two, by which choices are made, on the validation split.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import record
import trainings

BEST = ["--recipe", "best"]
NOTEBOOK_AUGMENTATION = ["--rotation-range", "15", "--zoom-range", "0.2", "--brightness-range", "1", "1"]
NOTEBOOK_AUGMENTATION += ["--width-shift-range", "0.1", "--height-shift-range", "0.1"]
NOTEBOOK_SCHEDULE = ["--optimizer", "adam", "--learning-rate", "0.001", "--schedule", "plateau", "--patience", "15"]
NOTEBOOK_SCHEDULE += ["--epochs", "150"]
COLUMNS = ("accuracy", "balanced_accuracy", "macro_f1", "auc")
TRACK = ["-m", "keras_vision.derma"]
NOTEBOOK = [str(Path(__file__)), "--notebook"]

# Name of a row: the command, its flags, and the largest number of seeds.
RECIPES = {
    "reference notebook's way, augmented": (NOTEBOOK, ["--augment"], 3),
    "reference notebook's way, augmented, balanced weights": (NOTEBOOK, ["--augment", "--class-weight", "balanced"], 1),
    "reference notebook's way, not augmented, balanced weights": (NOTEBOOK, ["--class-weight", "balanced"], 1),
    "baseline": (TRACK, [], 5),
    "baseline --augment": (TRACK, ["--augment"], 5),
    "baseline --augment --backend jax": (TRACK, ["--augment", "--backend", "jax"], 1),
    "baseline --augment --backend torch": (TRACK, ["--augment", "--backend", "torch"], 1),
    "best": (TRACK, BEST, 5),
}
# `best` with one part left out or replaced by the reference notebook's.
INGREDIENTS = {
    "best": (TRACK, BEST, 1),
    "the reference notebook's network": (TRACK, [*BEST, "--architecture", "plain_cnn", "--width", "32"], 1),
    "the reference notebook's augmentation": (TRACK, [*BEST, *NOTEBOOK_AUGMENTATION], 1),
    "the reference notebook's schedule": (TRACK, [*BEST, *NOTEBOOK_SCHEDULE], 1),
    "no dropout": (TRACK, [*BEST, "--dropout-scale", "0"], 1),
}
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)


def notebook_training(arguments):
    """The DermaMNIST notebook's network, trained as there: Keras's ImageDataGenerator, Adam, early stopping.

    Same splits, evaluation, patience and reductions of the learning rate as `baseline`; float images in memory.
    """
    import time
    import warnings

    import keras
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    from keras_vision import data, evaluation, models, training
    from keras_vision.derma import RECIPES as DERMA
    from keras_vision.recipe import override

    warnings.simplefilter("ignore", DeprecationWarning)
    parser = argparse.ArgumentParser()
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--class-weight", default="none")
    parser.add_argument("--data")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--epochs", type=int, default=DERMA["baseline"].training.epochs)
    options = parser.parse_args(arguments)

    recipe = override(DERMA["baseline"], data=options.data)
    keras.utils.set_random_seed(options.seed)
    splits = data.load_splits(recipe.data)
    model = models.build(recipe.model, splits.image_shape, splits.num_classes)
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.training.learning_rate),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    augmentation = {}
    if options.augment:
        augmentation = {
            "rotation_range": 15,
            "zoom_range": 0.2,
            "width_shift_range": 0.1,
            "height_shift_range": 0.1,
            "horizontal_flip": True,
        }
    one_hot = np.eye(splits.num_classes, dtype=np.float32)
    flow = ImageDataGenerator(**augmentation).flow(
        splits.train.images.astype(np.float32), one_hot[splits.train.labels], batch_size=recipe.training.batch_size
    )
    spec = recipe.training
    started = time.perf_counter()
    history = model.fit(
        flow,
        validation_data=(splits.val.images.astype(np.float32), one_hot[splits.val.labels]),
        epochs=options.epochs,
        class_weight=training.class_weights(splits.train.labels, splits.num_classes, options.class_weight),
        callbacks=[
            keras.callbacks.ReduceLROnPlateau(factor=spec.cut_factor, patience=spec.plateau_patience),
            keras.callbacks.EarlyStopping(patience=spec.patience, restore_best_weights=True),
        ],
        verbose=2,
    )
    seconds = time.perf_counter() - started
    probabilities = evaluation.softmax(model.predict(splits.test.images, verbose=0))
    metrics = evaluation.judge(splits.test.labels, probabilities).metrics
    report = {
        "metrics": {name: {"value": interval.value} for name, interval in metrics.items()},
        "training": {"seconds": seconds, "epochs": len(history.epoch)},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.json").write_text(json.dumps(report) + "\n", "utf-8")


def tradeoff(options):
    """`best` with its logits adjusted by several strengths after the training: metrics on the validation split."""
    import keras

    from keras_vision import data, evaluation
    from keras_vision.recipe import DataSpec

    splits = data.load_splits(DataSpec(data=options.data))
    log_shares = np.log(np.bincount(splits.train.labels) / len(splits.train))
    rows = {f"--logit-adjustment {strength:g}": [] for strength in STRENGTHS}
    for seed in range(options.seeds):
        report = trainings.train(TRACK, "best", BEST, seed, options)
        model = keras.saving.load_model(trainings.folder(options, "best", seed) / "model.keras")
        logits = model.predict(splits.val.images, batch_size=256, verbose=0)
        for name, strength in zip(rows, STRENGTHS, strict=True):
            probabilities = evaluation.softmax(logits - strength * log_shares)
            metrics = evaluation.judge(splits.val.labels, probabilities, resamples=10).metrics
            values = {column: {"value": metrics[column].value} for column in COLUMNS}
            rows[name].append({"validation_metrics": values, "training": report["training"]})
    return rows


def main():
    if "--notebook" in sys.argv:
        notebook_training([argument for argument in sys.argv[1:] if argument != "--notebook"])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainings.add_flags(parser)
    parser.add_argument("--what", choices=("recipes", "ingredients", "tradeoff"), default="recipes")
    options = trainings.complete(parser.parse_args())
    split, which = ("test", "metrics") if options.what == "recipes" else ("val", "validation_metrics")
    if options.what == "tradeoff":
        reports = tradeoff(options)
    else:
        rows = {"recipes": RECIPES, "ingredients": INGREDIENTS}[options.what]
        reports = trainings.train_all(rows, options, split=split)
    tables = {name: trainings.columns_of(mine, COLUMNS, which) for name, mine in reports.items()}
    title = f"{Path(options.data).stem}, {'test' if split == 'test' else 'validation'} split"
    headline, details = trainings.print_table(title, options.what, tables)
    if options.only:  # A partial table must not replace the complete one.
        print(json.dumps(headline))
        return
    record.finish(f"derma_{options.what}" + ("_quick" if options.quick else ""), headline, details)


if __name__ == "__main__":
    main()
