"""Trainings that several benchmarks share: each a process of its own, of one thread by default, done once."""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy import stats

from keras_vision import cli

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def add_flags(parser):
    """The flags that `train` and `train_all` read."""
    parser.add_argument("--data", required=True, help=".npz in MedMNIST layout")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="names of rows; the others are left out")
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--jobs", type=int, help="trainings at once (default: as many as there are cores for)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each training (JAX takes all cores)")
    parser.add_argument("--runs", type=Path, help="where the runs are kept (default: runs/benchmark-DATA-BACKEND)")
    parser.add_argument("--quick", action="store_true", help="three epochs, one seed: shows that it works")


def complete(options):
    """Fills in what the flags leave open."""
    kind = "benchmark-quick" if options.quick else "benchmark"
    options.runs = options.runs or Path("runs") / f"{kind}-{Path(options.data).stem}-{options.backend}"
    options.jobs = options.jobs or max(1, len(os.sched_getaffinity(0)) // options.threads)
    options.seeds = 1 if options.quick else options.seeds
    return options


def folder(options, name, seed):
    """Where a row's run of a seed lies."""
    return options.runs / f"{''.join(letter if letter.isalnum() else '-' for letter in name)}-seed{seed}"


def train(command, name, flags, seed, options, *, split="test"):
    """Trains once, or finds that it was done, and gives the report.

    Args:
        command: What Python is to run, as `["-m", "keras_vision.derma"]`.
        split: What the run is judged on: what is there to choose by must not read the test split.
    """
    out = folder(options, name, seed)
    asked, settings = out.with_suffix(".settings"), _settings(command, flags, options)
    if asked.is_file() and asked.read_text("utf-8") != settings and (out / "report.json").is_file():
        sys.exit(f"{out} was run with other settings, see {asked}: move both away, and it is run anew.")
    if not (out / "report.json").is_file():
        whole = [sys.executable, *command, *flags, "--data", options.data, "--seed", str(seed), "--out", str(out)]
        whole += ["--epochs", "3"] if options.quick else []
        whole += ["--judge-on", "val"] if split == "val" else []
        out.parent.mkdir(parents=True, exist_ok=True)
        asked.write_text(settings, "utf-8")
        with out.with_suffix(".log").open("w") as log:
            environment = {
                **os.environ,
                **dict.fromkeys(THREADS, str(options.threads)),
                "KERAS_BACKEND": options.backend,
            }
            subprocess.run(whole, env=environment, check=True, stdout=log, stderr=subprocess.STDOUT)
    report = json.loads((out / "report.json").read_text("utf-8"))
    if split == "test" and report.get("split", "test") != "test":  # The other way round it has both splits' figures.
        sys.exit(f"{out} was judged on validation: move it away, and it is run anew.")
    return report


def _settings(command, flags, options):
    """What a run is made of: a run by a recipe that has changed since is not this run."""
    settings = [*flags, f"{options.threads} threads"]
    if command[0] == "-m":
        track = importlib.import_module(command[1])
        typed = [*command[2:], *flags, "--data", options.data]
        recipe = cli.parse(command[1].rpartition(".")[2], track.RECIPES, "", typed)[1]
        settings.append(dataclasses.asdict(recipe))
    return json.dumps(settings)


def train_all(rows, options, *, split="test"):
    """Reports of every row and seed: `{name: [report of seed 0, ...]}`.

    Args:
        rows: `{name: (command, flags, most seeds)}`.
    """
    rows = {name: row for name, row in rows.items() if not options.only or name in options.only}
    with ThreadPoolExecutor(options.jobs) as pool:
        waiting = {
            (name, seed): pool.submit(train, command, name, flags, seed, options, split=split)
            for seed in range(options.seeds)
            for name, (command, flags, most) in rows.items()
            if seed < most
        }
        done = {key: future.result() for key, future in waiting.items()}
    return {name: [report for (of, _), report in done.items() if of == name] for name in rows}


def columns_of(reports, figures, which="figures"):
    """`{column: values}`, a value a report: the figures, minutes and epochs."""
    columns = {figure: [report[which][figure]["value"] for report in reports] for figure in figures}
    columns["minutes"] = [report["training"]["seconds"] / 60 for report in reports]
    columns["epochs"] = [report["training"]["epochs"] for report in reports]
    return columns


def mean_and_margin(values):
    """Mean, and half the width of its 95 % t interval over seeds (0 for one seed)."""
    margin = 0.0
    if len(values) > 1:
        margin = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)), margin


def print_table(title, head, tables, minutes="minutes on one core"):
    """Prints a Markdown table, and gives its figures.

    Args:
        head: Name of the first column.
        tables: `{name of a row: columns_of its reports}`.

    Returns:
        `(headline, details)` for `record.finish`: rounded means, and values with means and margins.
    """
    details = {
        name: {column: {"values": v, "mean_and_margin": mean_and_margin(v)} for column, v in columns.items()}
        for name, columns in tables.items()
    }
    figures = [column for column in next(iter(details.values())) if column not in ("minutes", "epochs")]
    print(f"{title}, mean over seeds and 95 % t interval over them")
    print(f"| {head} | " + " | ".join(figures).replace("_", " ") + f" | seeds | epochs | {minutes} |")
    print("|---" * (len(figures) + 4) + "|")
    for name, columns in details.items():
        cells = []
        for figure in figures:
            mean, margin = columns[figure]["mean_and_margin"]
            cells.append(f"{mean:.3f} ± {margin:.3f}" if margin else f"{mean:.3f}")
        cells.append(str(len(columns["epochs"]["values"])))
        cells += [f"{columns['epochs']['mean_and_margin'][0]:.0f}", f"{columns['minutes']['mean_and_margin'][0]:.1f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")
    headline = {
        name: {figure: round(columns[figure]["mean_and_margin"][0], 4) for figure in figures}
        for name, columns in details.items()
    }
    return headline, details
