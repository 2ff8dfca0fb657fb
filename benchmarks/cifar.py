"""Accuracy and minutes on small colour images: `fast` and `custom`, beside a plain torch script of `custom`.

Run:     python benchmarks/cifar.py --data cifar10.npz --threads 2 [--seeds 1] [--quick]                test split
         python benchmarks/cifar.py --data cifar10.npz --threads 2 --what fast --backend torch          test split
         python benchmarks/cifar.py --data cifar10.npz --threads 2 --what ingredients                   validation split
         python benchmarks/cifar.py --data cifar10.npz --what transfer --init-from RUN --epochs 2       test split
`custom` and its peer are trained for as many epochs as an hour of two cores allows (20 in the reference
notebook, on an accelerator), `fast` as in its recipe.
Results are comparable only on the same file: a copy of CIFAR-10 that went through JPEG is another data set.
"""

import argparse
import csv
import json
from pathlib import Path

import record
import trainings

TRACK = ["-m", "keras_vision.cifar", "--explain", "none"]
WITHOUT = str(Path(__file__).with_name("cifar_without.py"))
PEER = [str(Path(__file__).with_name("torch_cifar.py"))]
FAST = ["--recipe", "fast"]
HALF = ["--precision", "mixed_bfloat16"]
COLUMNS = ("accuracy",)
FAST_ALONE = {"`fast`, mixed_bfloat16": (TRACK, [*FAST, *HALF], 5)}
EPOCHS = 14  # Of `custom` in an hour of two cores, and of its peer.
# `fast` in five epochs, with one part left out or replaced. Learning rates were tuned with all parts in place and not
# again for each row, so a row may lose more than its part is worth.
INGREDIENTS = {
    name: (command, [*FAST, *HALF, "--epochs", "5", "--warmup-epochs", "1", *flags], 1)
    for name, (command, flags) in {
        "`fast`": (TRACK, []),
        "first layer learnt, not whitened": ([WITHOUT, "whitening", *TRACK[2:]], []),
        "convolutions start at random": ([WITHOUT, "identity-start", *TRACK[2:]], []),
        "last normalization starts at 1, not 1/9": ([WITHOUT, "small-start", *TRACK[2:]], []),
        "flips drawn anew each epoch": (TRACK, ["--no-alternate-flips"]),
        "no augmentation": (TRACK, ["--no-augment"]),
        "no label smoothing": (TRACK, ["--label-smoothing", "0"]),
        "Adam": (TRACK, ["--optimizer", "adam", "--learning-rate", "0.002"]),
    }.items()
}


def recipes(epochs=EPOCHS):
    """Name of a row: the command, its flags, and the largest number of seeds."""
    length = ["--epochs", str(epochs)]
    return FAST_ALONE | {
        "`custom`": (TRACK, [*length, "--patience", "0"], 1),
        "plain torch, the network of `custom`": (PEER, length, 1),
    }


def transfer(epochs, start):
    """Two rows that differ only in their initial weights."""
    flags = [*HALF, "--epochs", str(epochs)]
    return {
        "`finetune`": (TRACK, ["--recipe", "finetune", *flags, "--init-from", str(start)], 1),
        "`scratch`": (TRACK, ["--recipe", "scratch", *flags], 1),
    }


def course(options, name):
    """`[(seconds, validation accuracy)]` of a row's first seed, epoch by epoch; empty for the peer."""
    path = trainings.folder(options, name, 0) / "history.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [(round(float(row["seconds"]), 1), float(row["val_accuracy"])) for row in csv.DictReader(file)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    trainings.add_flags(parser)
    parser.add_argument("--what", choices=("recipes", "fast", "ingredients", "transfer"), default="recipes")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of `custom` and peer, or of transfer's rows")
    parser.add_argument("--init-from", type=Path, help="for transfer: a run of imagenette --recipe resnet18")
    options = trainings.complete(parser.parse_args())
    if options.what == "transfer" and options.init_from is None:
        parser.error("--what transfer needs --init-from.")
    rows = {
        "recipes": recipes(options.epochs),
        "fast": FAST_ALONE,
        "ingredients": INGREDIENTS,
        "transfer": transfer(options.epochs, options.init_from),
    }[options.what]
    split, which = ("val", "validation_metrics") if options.what == "ingredients" else ("test", "metrics")
    reports = trainings.train_all(rows, options, split=split)
    tables = {name: trainings.columns_of(mine, COLUMNS, which) for name, mine in reports.items()}
    title = f"{Path(options.data).stem}, {'test' if split == 'test' else 'validation'} split, {options.backend}"
    minutes = f"minutes, {options.threads} threads"
    headline, details = trainings.print_table(title, options.what, tables, minutes)
    for name in reports:
        details[name]["course"] = course(options, name)
    if options.only:  # A partial table must not replace the complete one.
        print(json.dumps(headline))
        return
    name = f"cifar_{options.what}_{options.backend}" + ("_quick" if options.quick else "")
    record.finish(name, headline, details)


if __name__ == "__main__":
    main()
