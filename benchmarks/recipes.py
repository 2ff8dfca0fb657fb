"""The recipes of a track side by side: test accuracy, and how much of it was learnt by heart.

Run:     python benchmarks/recipes.py --track plants --data flower_photos [--seeds 3] [--quick]
         python benchmarks/recipes.py --track bones --data fracatlas --flags --weights none --epochs 5
The test split is read once, by the finished models. "Gap" is the accuracy on training images as they are less that on
the validation split. Of two classes, sensitivity and specificity stand at the threshold that validation chose.
"""

import argparse
import importlib
import json
from pathlib import Path

import record
import trainings

TRACKS = ("imagenette", "plants", "bones")


def columns(reports):
    """`{column: values}`, a value a report."""
    found = trainings.columns_of(reports, ("accuracy", "balanced_accuracy", "auc"))
    found["validation accuracy"] = [report["validation_figures"]["accuracy"]["value"] for report in reports]
    training = [report["training"]["accuracy"] for report in reports]
    found["gap"] = [known - val for known, val in zip(training, found["validation accuracy"], strict=True)]
    if all(report["operating_point"] for report in reports):
        for rate in ("sensitivity", "specificity"):
            found[rate] = [report["operating_point"]["at_threshold"][rate]["value"] for report in reports]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainings.add_flags(parser)
    parser.add_argument("--track", choices=TRACKS, required=True)
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="more flags of the track, for all rows")
    options = trainings.complete(parser.parse_args())
    module = importlib.import_module(f"keras_vision.{options.track}")
    command = ["-m", f"keras_vision.{options.track}", "--explain", "none"]
    rows = {f"`{name}`": (command, ["--recipe", name, *options.flags], options.seeds) for name in module.RECIPES}
    tables = {name: columns(mine) for name, mine in trainings.train_all(rows, options).items()}
    minutes = f"minutes, {options.threads} threads" if options.threads > 1 else "minutes on one core"
    title = f"{Path(options.data).name}, test split, {options.backend}"
    headline, details = trainings.print_table(title, options.track, tables, minutes)
    if options.only:  # A part of the table must not replace the whole.
        print(json.dumps(headline))
        return
    record.finish(f"{options.track}_recipes" + ("_quick" if options.quick else ""), headline, details)


if __name__ == "__main__":
    main()
