"""Finished runs side by side: figures, learning curves over one another, McNemar's test on the images they share.

Run:     python -m keras_vision.compare runs/derma runs/derma-augment
Writes:  compare.html, and the same tables in the terminal
"""

import csv
import html
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from keras_vision import cli
from keras_vision.recipe import InputError


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder says of it.

    Attributes:
        name: Name of the folder.
        report: `report.json`.
        epochs: `history.csv`, one dict an epoch.
        answers: `{SHA-256 of an image's pixels: was it classified rightly?}` from `predictions.csv`.
    """

    name: str
    report: dict
    epochs: list[dict[str, float]]
    answers: dict[str, bool]


def read_run(folder):
    """Reads a finished run.

    Raises:
        InputError: If the folder holds none, or one whose files are damaged.
    """
    folder = Path(folder)
    if not (folder / "report.json").is_file():
        raise InputError(f"{folder} is no finished run: it has no report.json.")
    try:
        report = json.loads((folder / "report.json").read_text("utf-8"))
        with (folder / "history.csv").open(encoding="utf-8", newline="") as file:
            epochs = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            answers = {row["image_sha256"]: row["label"] == row["predicted"] for row in csv.DictReader(file)}
        run = FinishedRun(folder.resolve().name, report, epochs, answers)
        figures_table([run]), training_table([run])  # They miss now what they would miss later.
        return run
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} is not a whole run: {error!r}.") from error


def figures_table(runs):
    """Head and rows: a row a run, its data, epochs, minutes, and every figure with its interval."""
    from keras_vision.evaluation.report import words

    names = list(runs[0].report["figures"])
    head = ["run", "data", "images", "epochs", "minutes", *map(words, names)]
    rows = []
    for run in runs:
        fit = run.report["training"]
        data = f"{run.report['data']['name']}, {run.report['split']}"
        start = [run.name, data, run.report["images"], fit["epochs"], f"{fit['seconds'] / 60:.1f}"]
        rows.append([*start, *(_shown(run.report["figures"].get(name)) for name in names)])
    return head, rows


def _shown(figure):
    if not figure or figure["value"] is None:
        return "none"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def training_table(runs):
    """Head and rows: a row a run, how its training ended, by the epoch whose weights were kept."""
    head = ["run", "epochs", "kept epoch", "training accuracy", "validation accuracy", "training loss"]
    head += ["validation loss", "accuracy on training images as they are", "less validation's"]
    rows = []
    for run in runs:
        fit, kept = run.report["training"], run.epochs[run.report["training"]["best_epoch"] - 1]
        curves = [f"{kept[name]:.4f}" for name in ("accuracy", "val_accuracy", "loss", "val_loss")]
        known, val = fit.get("accuracy"), run.report["validation_figures"]["accuracy"]["value"]
        learnt = ["none", "none"] if known is None else [f"{known:.4f}", f"{known - val:+.4f}"]
        rows.append([run.name, fit["epochs"], fit["best_epoch"], *curves, *learnt])
    return head, rows


def mcnemar_table(runs):
    """Head and rows: a row a pair of runs, on the test images that both have judged."""
    import numpy as np

    from keras_vision.evaluation import mcnemar

    head = ["first", "second", "shared images", "only first right", "only second right", "McNemar's p"]
    rows = []
    for first, second in itertools.combinations(runs, 2):
        shared = sorted(first.answers.keys() & second.answers.keys())
        if not shared:
            rows.append([first.name, second.name, 0, "", "", "no image in common"])
            continue
        answers = [np.array([run.answers[image] for image in shared]) for run in (first, second)]
        only_first, only_second, p = mcnemar(*answers)
        rows.append([first.name, second.name, len(shared), only_first, only_second, f"{p:.2g}"])
    return head, rows


def write_page(runs, path):
    """Writes one self-contained HTML file with tables and curves."""
    from keras_vision.evaluation import figures, report

    names = [run.name for run in runs]
    curves = report.picture(
        "learning_curves", report.png(figures.learning_curves({run.name: run.epochs for run in runs}))
    )
    body = f"""
<h1>Runs compared</h1>
<p class="lead">{html.escape(", ".join(names))}</p>
<h2>Figures</h2>
<p>95 % bootstrap intervals over the judged images of each run.</p>
{report.table(*_transposed(*figures_table(runs)))}
<h2>Learning curves</h2>
{curves}
{report.table(*_transposed(*training_table(runs)))}
<h2>Do they differ by more than luck?</h2>
<p>McNemar's exact test on the images that both runs have judged.</p>
{report.table(*mcnemar_table(runs))}
"""
    Path(path).write_text(report.page("Runs compared: " + ", ".join(names), body), "utf-8")


def _transposed(head, rows):
    """A row a figure and a column a run: many figures and few runs read better so."""
    columns = list(zip(head, *rows, strict=True))
    return columns[0], columns[1:]


def main(argv=None):
    parser = cli.Parser(
        prog="python -m keras_vision.compare",
        description=__doc__,
        usage="%(prog)s RUN RUN... [--out FILE] [--overwrite]",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--out", default="compare.html", metavar="FILE", help="page to write (default: compare.html)")
    parser.add_argument("--overwrite", action="store_true", default=False, help="replace an existing page")
    options = parser.parse_args(argv)
    with cli.exit_status() as status:
        if len(options.runs) < 2:
            raise InputError("Comparing takes at least two runs. Received: 1.")
        if Path(options.out).exists() and not options.overwrite:
            raise InputError(f"{options.out} exists. Choose another page with --out FILE, or pass --overwrite.")
        runs = [read_run(folder) for folder in options.runs]
        if len({run.name for run in runs}) < len(runs):
            runs = [
                FinishedRun(str(folder), run.report, run.epochs, run.answers)
                for folder, run in zip(options.runs, runs, strict=True)
            ]
        from keras_vision.evaluation.report import text_table

        for table in (figures_table, training_table):
            print(text_table(*_transposed(*table(runs))))
            print()
        print(text_table(*mcnemar_table(runs)))
        try:
            write_page(runs, options.out)
        except OSError as error:
            raise InputError(f"Cannot write {options.out}: {error.strerror}.") from error
        print(f"\nPage: {options.out}")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
