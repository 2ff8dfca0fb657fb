"""The results on volumes: both recipes of `fracture3d`, evaluated by MedMNIST's own evaluator.

Run:     python benchmarks/fracture3d.py --data adrenalmnist3d.npz [--seeds 3] [--quick]     recipes, test split
         python benchmarks/fracture3d.py --data adrenalmnist3d.npz --what choices --seeds 1  alternatives to `best`
Accuracy and AUC are `medmnist.Evaluator`'s for official files, else this package's, which are equal.
AdrenalMNIST3D's validation split has 98 volumes, too few to choose by (a standard error of .04 in accuracy), so choices
are evaluated on three tenths of its training and validation volumes together and trained on the rest, without the test
split.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
import record
import trainings

TRACK = ["-m", "keras_vision.fracture3d"]
BEST = ["--recipe", "best"]
COLUMNS = ("accuracy", "balanced_accuracy", "auc")
NO_HEATMAPS = ["--explain", "none"]
# Name of a row: the command, its flags, and the largest number of seeds.
RECIPES = {"baseline": (TRACK, NO_HEATMAPS, 5), "best": (TRACK, [*BEST, *NO_HEATMAPS], 5)}
MOVED = ["--rotation-range", "15", "--width-shift-range", "0.08", "--height-shift-range", "0.08"]
MOVED += ["--depth-shift-range", "0.08"]
CHOICES = {
    "`best`": (TRACK, [*BEST, *NO_HEATMAPS], 1),
    "flips only, no rotations of the cube": (TRACK, [*BEST, *NO_HEATMAPS, "--no-rotate-cube"], 1),
    "small rotations and shifts as well": (TRACK, [*BEST, *NO_HEATMAPS, *MOVED], 1),
    "no augmentation": (TRACK, [*BEST, *NO_HEATMAPS, "--no-augment"], 1),
}


def official(options, name, seed):
    """`{metric: value}` of `medmnist.Evaluator` from a run's predictions; empty for other data."""
    import medmnist

    path = Path(options.data)
    if path.stem not in medmnist.INFO:
        return {}
    with (trainings.folder(options, name, seed) / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = sum(key.startswith("p_") for key in rows[0])
    scores = np.array([[float(row[f"p_{label}"]) for label in range(classes)] for row in rows])
    metrics = medmnist.Evaluator(path.stem, "test", root=str(path.parent.resolve())).evaluate(scores)
    return {"accuracy": metrics.ACC, "auc": metrics.AUC}


def without_test(options):
    """Writes the file that choices are made on, next to the runs, and returns its path."""
    from sklearn.model_selection import train_test_split

    with np.load(options.data) as file:
        images, labels = (np.concatenate([file[f"{split}_{kind}"] for split in ("train", "val")]) for kind in KINDS)
    rows = train_test_split(np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0)
    # The track needs a test split; it is not evaluated.
    rows = dict(zip(("train", "val", "test"), (*rows, rows[1]), strict=True))
    path = options.runs / "choices.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"images": images, "labels": labels}
    np.savez_compressed(path, **{f"{s}_{kind}": arrays[kind][chosen] for s, chosen in rows.items() for kind in KINDS})
    return str(path)


KINDS = ("images", "labels")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainings.add_flags(parser)
    parser.add_argument("--what", choices=("recipes", "choices"), default="recipes")
    options = trainings.complete(parser.parse_args())
    stem = Path(options.data).stem
    if options.what == "choices":
        options.data = without_test(options)
        reports = trainings.train_all(CHOICES, options, split="val")
        tables = {name: trainings.columns_of(mine, COLUMNS, "validation_metrics") for name, mine in reports.items()}
    else:
        reports = trainings.train_all(RECIPES, options)
        tables = {}
        for name, mine in reports.items():
            tables[name] = trainings.columns_of(mine, COLUMNS)
            official_metrics = [official(options, name, seed) for seed in range(len(mine))]
            tables[name] |= {metric: [one[metric] for one in official_metrics] for metric in official_metrics[0]}
    title = f"{stem}, {'test split' if options.what == 'recipes' else 'three tenths of training and validation'}"
    headline, details = trainings.print_table(title, options.what, tables)
    if options.only:  # A partial table must not replace the complete one.
        print(json.dumps(headline))
        return
    record.finish(f"fracture3d_{options.what}" + ("_quick" if options.quick else ""), headline, details)


if __name__ == "__main__":
    main()
