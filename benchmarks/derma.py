"""The skin-lesion figures of the README: recipes, seeds, the document's own way of training, and what earned what.

Run:     python benchmarks/derma.py --data FILE.npz [--seeds 3] [--quick]            the table of recipes
         python benchmarks/derma.py --data FILE.npz --what ingredients               `best` with one part taken out
         python benchmarks/derma.py --data FILE.npz --what tradeoff                  `best`, its logits adjusted
Every training is a process of its own with one thread, as many at once as --jobs says; a finished one is not run
again. The table of recipes is read on the test split; the other two, which are there to choose by, on validation.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import record
import trainings

BEST = ["--recipe", "best"]
DOCUMENT_AUGMENTATION = ["--rotation-range", "15", "--zoom-range", "0.2", "--brightness-range", "1", "1"]
DOCUMENT_AUGMENTATION += ["--width-shift-range", "0.1", "--height-shift-range", "0.1"]
DOCUMENT_SCHEDULE = ["--optimizer", "adam", "--learning-rate", "0.001", "--schedule", "plateau", "--patience", "15"]
DOCUMENT_SCHEDULE += ["--epochs", "150"]
COLUMNS = ("accuracy", "balanced_accuracy", "macro_f1", "auc")
TRACK = ["-m", "keras_vision.derma"]
DOCUMENT = [str(Path(__file__)), "--document"]

# Name of a row: what is run, its flags, and on how many seeds it is run at most.
RECIPES = {
    "document's way, augmented": (DOCUMENT, ["--augment"], 3),
    "document's way, augmented, balanced weights": (DOCUMENT, ["--augment", "--class-weight", "balanced"], 1),
    "document's way, not augmented, balanced weights": (DOCUMENT, ["--class-weight", "balanced"], 1),
    "baseline": (TRACK, [], 5),
    "baseline --augment": (TRACK, ["--augment"], 5),
    "baseline --augment --backend jax": (TRACK, ["--augment", "--backend", "jax"], 1),
    "baseline --augment --backend torch": (TRACK, ["--augment", "--backend", "torch"], 1),
    "best": (TRACK, BEST, 5),
}
# `best` with one part taken out or put back to the document's.
INGREDIENTS = {
    "best": (TRACK, BEST, 1),
    "the document's network": (TRACK, [*BEST, "--architecture", "plain_cnn", "--width", "32"], 1),
    "the document's augmentation": (TRACK, [*BEST, *DOCUMENT_AUGMENTATION], 1),
    "the document's schedule": (TRACK, [*BEST, *DOCUMENT_SCHEDULE], 1),
    "no dropout": (TRACK, [*BEST, "--dropout-scale", "0"], 1),
}
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)


def document_way(arguments):
    """The document's network trained as the document trains it: Keras's ImageDataGenerator, Adam, early stopping.

    Same splits, same judge, same patience and cuts of the learning rate as `baseline`; float images in memory.
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
    figures = evaluation.judge(splits.test.labels, probabilities).figures
    report = {
        "figures": {name: {"value": values[0]} for name, values in figures.items()},
        "training": {"seconds": seconds, "epochs": len(history.epoch)},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "report.json").write_text(json.dumps(report) + "\n", "utf-8")


def tradeoff(options):
    """`best` as trained, its logits adjusted by several strengths afterwards: figures on the validation split."""
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
            figures = evaluation.judge(splits.val.labels, probabilities, resamples=10).figures
            shown = {column: {"value": figures[column][0]} for column in COLUMNS}
            rows[name].append({"validation_figures": shown, "training": report["training"]})
    return rows


def main():
    if "--document" in sys.argv:
        document_way([argument for argument in sys.argv[1:] if argument != "--document"])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainings.add_flags(parser)
    parser.add_argument("--what", choices=("recipes", "ingredients", "tradeoff"), default="recipes")
    options = trainings.complete(parser.parse_args())
    split, which = ("test", "figures") if options.what == "recipes" else ("val", "validation_figures")
    if options.what == "tradeoff":
        reports = tradeoff(options)
    else:
        rows = {"recipes": RECIPES, "ingredients": INGREDIENTS}[options.what]
        reports = trainings.train_all(rows, options, split=split)
    tables = {name: trainings.columns_of(mine, COLUMNS, which) for name, mine in reports.items()}
    title = f"{Path(options.data).stem}, {'test' if split == 'test' else 'validation'} split"
    headline, details = trainings.print_table(title, options.what, tables)
    if options.only:  # A part of the table must not replace the whole.
        print(json.dumps(headline))
        return
    record.finish(f"derma_{options.what}" + ("_quick" if options.quick else ""), headline, details)


if __name__ == "__main__":
    main()
