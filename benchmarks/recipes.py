"""The recipes of a track side by side: test accuracy and overfitting.

Run:     python benchmarks/recipes.py --track plants --data flower_photos [--seeds 3] [--quick]
         python benchmarks/recipes.py --track bones --data fracatlas --flags --weights none --epochs 5
The test split is read once, by the finished models. "Gap" is train accuracy without augmentation minus validation
accuracy. For two classes, sensitivity and specificity are at the threshold that was chosen on validation.
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
    values = trainings.columns_of(reports, ("accuracy", "balanced_accuracy", "auc"))
    values["validation accuracy"] = [report["validation_metrics"]["accuracy"]["value"] for report in reports]
    train_accuracy = [report["training"]["accuracy"] for report in reports]
    values["gap"] = [train - val for train, val in zip(train_accuracy, values["validation accuracy"], strict=True)]
    if all(report["operating_point"] for report in reports):
        for rate in ("sensitivity", "specificity"):
            values[rate] = [report["operating_point"]["at_threshold"][rate]["value"] for report in reports]
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainings.add_flags(parser)
    parser.add_argument("--track", choices=TRACKS, required=True)
    parser.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="flags of the track for all rows")
    options = trainings.complete(parser.parse_args())
    module = importlib.import_module(f"keras_vision.{options.track}")
    command = ["-m", f"keras_vision.{options.track}", "--explain", "none"]
    rows = {f"`{name}`": (command, ["--recipe", name, *options.flags], options.seeds) for name in module.RECIPES}
    tables = {name: columns(mine) for name, mine in trainings.train_all(rows, options).items()}
    minutes = f"minutes, {options.threads} threads" if options.threads > 1 else "minutes on one core"
    title = f"{Path(options.data).name}, test split, {options.backend}"
    headline, details = trainings.print_table(title, options.track, tables, minutes)
    if options.only:  # A partial table must not replace the complete one.
        print(json.dumps(headline))
        return
    record.finish(f"{options.track}_recipes" + ("_quick" if options.quick else ""), headline, details)


if __name__ == "__main__":
    main()
