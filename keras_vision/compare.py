"""Finished runs side by side: metrics, means over seeds, learning curves, McNemar's test on the images they share.

Run:     python -m keras_vision.compare runs/derma runs/derma-augment
Writes:  compare.html, and the same tables in the terminal
"""

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_vision import cli
from keras_vision.recipe import InputError

if TYPE_CHECKING:
    from keras_vision.pipeline.folder import FinishedRun
    from keras_vision.pipeline.tables import Table


def read_run(folder: str) -> "FinishedRun":
    """Reads a finished run.

    Raises:
        InputError: If the folder holds none, or one whose files are damaged.
    """
    from keras_vision.pipeline import folder as run_folder

    run = run_folder.read_run(folder)
    try:
        # What they lack is refused now.
        for table in (metrics_table, training_table, seeds_tables):
            table([run])
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise run_folder.damaged(folder, error) from error
    return run


def metrics_table(runs: Sequence["FinishedRun"]) -> "Table":
    """Head and rows: a row per run, its data, epochs, minutes, and every metric with its interval."""
    from keras_vision.pipeline.tables import from_json, shown, words

    names = list(dict.fromkeys(name for run in runs for name in run.report["metrics"]))
    head = ["run", "data", "images", "epochs", "minutes", *map(words, names)]
    rows = []
    for run in runs:
        fit = run.report["training"]
        data = f"{run.report['data']['name']}, {run.report['split']}"
        start = [run.name, data, run.report["images"], fit["epochs"], f"{fit['seconds'] / 60:.1f}"]
        rows.append([*start, *(shown(from_json(run.report["metrics"].get(name))) for name in names)])
    return head, rows


def training_table(runs: Sequence["FinishedRun"]) -> "Table":
    """Head and rows: a row per run, how its training ended, at the epoch whose weights were kept."""
    from keras_vision.pipeline.tables import words

    called = words(runs[0].report.get("main_metric", "accuracy"))
    head = ["run", "epochs", "kept epoch", "training accuracy", "validation accuracy", "training loss"]
    head += ["validation loss", f"train {called} without augmentation", "train minus validation"]
    rows = []
    for run in runs:
        fit = run.report["training"]
        kept = run.epochs[fit["best_epoch"] - 1] if run.epochs else None  # An ensemble was not trained.
        curves = [f"{kept[name]:.4f}" if kept else "none" for name in ("accuracy", "val_accuracy", "loss", "val_loss")]
        main = run.report.get("main_metric", "accuracy")
        known, val = fit.get("accuracy"), run.report["validation_metrics"][main]["value"]
        gap = ["none", "none"] if known is None else [f"{known:.4f}", f"{known - val:+.4f}"]
        rows.append([run.name, fit["epochs"], fit["best_epoch"], *curves, *gap])
    return head, rows


def seeds_tables(runs: Sequence["FinishedRun"]) -> tuple["Table", "Table"] | None:
    """Means over runs that differ by their seed alone, and these settings compared seed by seed; None without seeds.

    Returns:
        Two tables: a row per setting; and a row per pair of settings that have seeds in common.
    """
    from keras_vision.pipeline import seeds

    settings = seeds.by_setting(runs)
    if all(len(one.runs) < 2 for one in settings):
        return None
    main = runs[0].report.get("main_metric", "accuracy")
    tables = [seeds.paired_table(first, [second], main) for first, second in itertools.combinations(settings, 2)]
    pairs = [row for _, rows in tables for row in rows if row[2]]
    return seeds.mean_table(settings), (tables[0][0] if tables else [], pairs)


def mcnemar_table(runs: Sequence["FinishedRun"]) -> "Table":
    """Head and rows: a row per pair of runs, on the test images that both have classified."""
    import numpy as np

    from keras_vision.evaluation import mcnemar

    head = ["first", "second", "shared images", "only first correct", "only second correct", "McNemar's p"]
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


def write_page(runs: Sequence["FinishedRun"], path: str) -> None:
    """Writes one self-contained HTML file with tables and curves."""
    from keras_vision.pipeline import html, plots
    from keras_vision.pipeline.tables import transposed

    names = ", ".join(run.name for run in runs)
    over_seeds = seeds_tables(runs)
    trained = {run.name: run.epochs for run in runs if run.epochs}
    curves = html.picture("learning_curves", plots.png(plots.learning_curves(trained))) if trained else ""
    body = "\n".join(
        [
            f'<h1>Runs compared</h1>\n<p class="lead">{html.text(names)}</p>',
            html.section(
                "metrics",
                "Metrics",
                "<p>95 % bootstrap intervals over the images of each run, or over their groups where it knew them.</p>"
                + html.table(*transposed(*metrics_table(runs))),
            ),
            *([] if over_seeds is None else [html.section("seeds", "Over seeds", _over_seeds(*over_seeds))]),
            html.section(
                "training",
                "Learning curves",
                curves + html.table(*transposed(*training_table(runs))),
            ),
            html.section(
                "difference",
                "Do they differ by more than chance?",
                "<p>McNemar's exact test on the images that both runs have classified.</p>"
                + html.table(*mcnemar_table(runs)),
            ),
        ]
    )
    Path(path).write_text(html.page(f"Runs compared: {names}", body), "utf-8")


def _over_seeds(means, pairs):
    from keras_vision.pipeline import html

    text = "Runs that differ by their seed alone: means with 95 % t intervals over the seeds."
    body = f"<p>{text}</p>{html.table(*means)}"
    if pairs[1]:
        body += "<p>Paired t test over the seeds that both have, and McNemar's test for each of these.</p>"
        body += html.table(*pairs)
    return body


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.Parser(
        prog=cli.program("compare"),
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
            runs = [dataclasses.replace(run, name=str(folder)) for folder, run in zip(options.runs, runs, strict=True)]
        from keras_vision.pipeline.tables import text_table, transposed

        for table in (metrics_table, training_table):
            print(text_table(*transposed(*table(runs))))
            print()
        for head, rows in seeds_tables(runs) or ():
            if rows:
                print(f"{text_table(head, rows)}\n")
        print(text_table(*mcnemar_table(runs)))
        try:
            write_page(runs, options.out)
        except OSError as error:
            raise InputError(f"Cannot write {options.out}: {error.strerror}.") from error
        print(f"\nPage: {options.out}")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
