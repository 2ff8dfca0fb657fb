"""The skin-lesion figures of the README: recipes, seeds, the document's own way of training, and what earned what.

Run:     python benchmarks/derma.py --data FILE.npz [--seeds 3] [--quick]            the table of recipes
         python benchmarks/derma.py --data FILE.npz --what ingredients               `best` with one part taken out
         python benchmarks/derma.py --data FILE.npz --what tradeoff                  `best`, its logits adjusted
Every training is a process of its own with one thread, as many at once as --jobs says; a finished one is not run
again. The table of recipes is read on the test split; the other two, which are there to choose by, on validation.
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import record
from scipy import stats

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
BEST = ["--recipe", "best"]
DOCUMENT_AUGMENTATION = ["--rotation-range", "15", "--zoom-range", "0.2", "--brightness-range", "1", "1"]
DOCUMENT_AUGMENTATION += ["--width-shift-range", "0.1", "--height-shift-range", "0.1"]
DOCUMENT_SCHEDULE = ["--optimizer", "adam", "--learning-rate", "0.001", "--schedule", "plateau", "--patience", "15"]
DOCUMENT_SCHEDULE += ["--epochs", "150"]
COLUMNS = ("accuracy", "balanced_accuracy", "macro_f1", "auc")

# Name of a row: its flags, and on how many seeds it is run at most.
RECIPES = {
    "document's way, augmented": (["--document", "--augment"], 3),
    "document's way, augmented, balanced weights": (["--document", "--augment", "--class-weight", "balanced"], 1),
    "document's way, not augmented, balanced weights": (["--document", "--class-weight", "balanced"], 1),
    "baseline": ([], 5),
    "baseline --augment": (["--augment"], 5),
    "baseline --augment --backend jax": (["--augment", "--backend", "jax"], 1),
    "baseline --augment --backend torch": (["--augment", "--backend", "torch"], 1),
    "best": (BEST, 5),
}
# `best` with one part taken out or put back to the document's.
INGREDIENTS = {
    "best": (BEST, 1),
    "the document's network": ([*BEST, "--architecture", "plain_cnn", "--width", "32"], 1),
    "the document's augmentation": ([*BEST, *DOCUMENT_AUGMENTATION], 1),
    "the document's schedule": ([*BEST, *DOCUMENT_SCHEDULE], 1),
    "no dropout": ([*BEST, "--dropout-scale", "0"], 1),
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
            keras.callbacks.ReduceLROnPlateau(factor=spec.plateau_factor, patience=spec.plateau_patience),
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


def slug(name):
    """A row's name as a folder's."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def train(name, flags, seed, options):
    """Trains once, or finds that it was done, and gives the report."""
    out = options.runs / f"{slug(name)}-seed{seed}"
    if not (out / "report.json").is_file():
        module = [str(Path(__file__)), "--document"] if "--document" in flags else ["-m", "keras_vision.derma"]
        rest = [flag for flag in flags if flag != "--document"]
        command = [sys.executable, *module, *rest, "--data", options.data, "--seed", str(seed), "--out", str(out)]
        command += ["--epochs", "3"] if options.quick else []
        # What is there to choose by must not read the test split.
        command += ["--judge-on", "val"] if options.what == "ingredients" else []
        one_thread = dict.fromkeys(ONE_THREAD, "1")
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.with_suffix(".log").open("w") as log:
            environment = {**os.environ, **one_thread, "KERAS_BACKEND": options.backend}
            subprocess.run(command, env=environment, check=True, stdout=log, stderr=subprocess.STDOUT)
    report = json.loads((out / "report.json").read_text("utf-8"))
    if options.what == "recipes" and report.get("split", "test") != "test":
        sys.exit(f"{out} was judged on validation: move it away, and it is run anew.")
    return report


def train_all(rows, options):
    """Reports of every row and seed: `{name: [report of seed 0, ...]}`."""
    rows = {name: row for name, row in rows.items() if not options.only or name in options.only}
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = {
            (name, seed): pool.submit(train, name, flags, seed, options)
            for seed in range(options.seeds)
            for name, (flags, most) in rows.items()
            if seed < most
        }
        done = {key: future.result() for key, future in waiting.items()}
    return {name: [report for (of, _), report in done.items() if of == name] for name in rows}


def tradeoff(options):
    """`best` as trained, its logits adjusted by several strengths afterwards: figures on the validation split."""
    import keras

    from keras_vision import data, evaluation
    from keras_vision.recipe import DataSpec

    splits = data.load_splits(DataSpec(data=options.data))
    log_shares = np.log(np.bincount(splits.train.labels) / len(splits.train))
    rows = {f"--logit-adjustment {strength:g}": [] for strength in STRENGTHS}
    for seed in range(options.seeds):
        report = train("best", BEST, seed, options)
        model = keras.saving.load_model(options.runs / f"best-seed{seed}" / "model.keras")
        logits = model.predict(splits.val.images, batch_size=256, verbose=0)
        for name, strength in zip(rows, STRENGTHS, strict=True):
            probabilities = evaluation.softmax(logits - strength * log_shares)
            figures = evaluation.judge(splits.val.labels, probabilities, resamples=10).figures
            shown = {column: {"value": figures[column][0]} for column in COLUMNS}
            rows[name].append({"validation_figures": shown, "training": report["training"]})
    return rows


def mean_and_margin(values):
    """Mean, and half the width of its 95 % t interval over seeds (0 for one seed)."""
    margin = 0.0
    if len(values) > 1:
        margin = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)), margin


def main():
    if "--document" in sys.argv:
        document_way([argument for argument in sys.argv[1:] if argument != "--document"])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help=".npz in MedMNIST layout")
    parser.add_argument("--what", choices=("recipes", "ingredients", "tradeoff"), default="recipes")
    parser.add_argument("--only", nargs="+", help="names of rows; the others are left out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=Path, help="where the runs are kept (default: runs/benchmark-DATA)")
    parser.add_argument("--quick", action="store_true", help="three epochs, one seed: shows that it works")
    options = parser.parse_args()
    kind = "benchmark-quick" if options.quick else "benchmark"
    options.runs = options.runs or Path("runs") / f"{kind}-{Path(options.data).stem}-{options.backend}"
    options.seeds = 1 if options.quick else options.seeds
    if options.what == "tradeoff":
        reports = tradeoff(options)
    else:
        reports = train_all({"recipes": RECIPES, "ingredients": INGREDIENTS}[options.what], options)
    which = "figures" if options.what == "recipes" else "validation_figures"
    details = {}
    for name, mine in reports.items():
        columns = {column: [report[which][column]["value"] for report in mine] for column in COLUMNS}
        columns["minutes"] = [report["training"]["seconds"] / 60 for report in mine]
        columns["epochs"] = [report["training"]["epochs"] for report in mine]
        details[name] = {column: {"values": v, "mean_and_margin": mean_and_margin(v)} for column, v in columns.items()}
    split = "test" if options.what == "recipes" else "validation"
    print(f"{Path(options.data).stem}, {split} split, mean over seeds and 95 % t interval over them")
    print(f"| {options.what} | " + " | ".join(COLUMNS).replace("_", " ") + " | seeds | epochs | minutes on one core |")
    print("|---" * (len(COLUMNS) + 4) + "|")
    for name, columns in details.items():
        cells = []
        for column in COLUMNS:
            mean, margin = columns[column]["mean_and_margin"]
            cells.append(f"{mean:.3f} ± {margin:.3f}" if margin else f"{mean:.3f}")
        cells.append(str(len(columns["accuracy"]["values"])))
        cells += [f"{columns['epochs']['mean_and_margin'][0]:.0f}", f"{columns['minutes']['mean_and_margin'][0]:.1f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")
    headline = {
        name: {column: round(columns[column]["mean_and_margin"][0], 4) for column in COLUMNS}
        for name, columns in details.items()
    }
    if options.only:  # A part of the table must not replace the whole.
        print(json.dumps(headline))
        return
    record.finish(f"derma_{options.what}" + ("_quick" if options.quick else ""), headline, details)


if __name__ == "__main__":
    main()
