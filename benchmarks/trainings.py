"""Trainings shared by several benchmarks: each is a process of its own, with one thread by default, run once."""

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
    parser.add_argument("--only", nargs="+", help="names of the rows to run")
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--jobs", type=int, help="trainings at once (default: cores / threads)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each training (JAX takes all cores)")
    parser.add_argument("--runs", type=Path, help="folder of the runs (default: runs/benchmark-DATA-BACKEND)")
    parser.add_argument("--quick", action="store_true", help="three epochs, one seed, to check that it runs")


def complete(options):
    """Fills in the defaults that depend on other flags."""
    kind = "benchmark-quick" if options.quick else "benchmark"
    options.runs = options.runs or Path("runs") / f"{kind}-{Path(options.data).stem}-{options.backend}"
    options.jobs = options.jobs or max(1, len(os.sched_getaffinity(0)) // options.threads)
    options.seeds = 1 if options.quick else options.seeds
    return options


def folder(options, name, seed):
    """Folder of a row's run with a seed."""
    return options.runs / f"{''.join(letter if letter.isalnum() else '-' for letter in name)}-seed{seed}"


def train(command, name, flags, seed, options, *, split="test"):
    """The report of a training, which is run unless it was done before.

    Args:
        command: Arguments for Python, such as `["-m", "keras_vision.derma"]`.
        split: The split to evaluate on; a row by which choices are made must not read the test split.
    """
    out = folder(options, name, seed)
    file, settings = out.with_suffix(".settings"), _settings(command, flags, options)
    if file.is_file() and file.read_text("utf-8") != settings and (out / "report.json").is_file():
        sys.exit(f"{out} was run with other settings, see {file}. Move both away to run it again.")
    if not (out / "report.json").is_file():
        arguments = [sys.executable, *command, *flags, "--data", options.data, "--seed", str(seed), "--out", str(out)]
        arguments += ["--epochs", "3"] if options.quick else []
        arguments += ["--judge-on", "val"] if split == "val" else []
        out.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(settings, "utf-8")
        with out.with_suffix(".log").open("w") as log:
            environment = {
                **os.environ,
                **dict.fromkeys(THREADS, str(options.threads)),
                "KERAS_BACKEND": options.backend,
            }
            subprocess.run(arguments, env=environment, check=True, stdout=log, stderr=subprocess.STDOUT)
    report = json.loads((out / "report.json").read_text("utf-8"))
    if split == "test" and report.get("split", "test") != "test":  # A report on test has the metrics of both.
        sys.exit(f"{out} was evaluated on validation. Move it away to run it again.")
    return report


def _settings(command, flags, options):
    """Everything that decides a run, as text: a run of a recipe that has changed since is another one."""
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
        rows: `{name: (command, flags, largest number of seeds)}`.
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


def columns_of(reports, metrics, which="metrics"):
    """`{column: values}`, one value per report: metrics, minutes and epochs."""
    columns = {metric: [report[which][metric]["value"] for report in reports] for metric in metrics}
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
    """Prints a Markdown table and returns its numbers.

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
    metrics = [column for column in next(iter(details.values())) if column not in ("minutes", "epochs")]
    print(f"{title}, mean over seeds and 95 % t interval over them")
    print(f"| {head} | " + " | ".join(metrics).replace("_", " ") + f" | seeds | epochs | {minutes} |")
    print("|---" * (len(metrics) + 4) + "|")
    for name, columns in details.items():
        cells = []
        for metric in metrics:
            mean, margin = columns[metric]["mean_and_margin"]
            cells.append(f"{mean:.3f} ± {margin:.3f}" if margin else f"{mean:.3f}")
        cells.append(str(len(columns["epochs"]["values"])))
        cells += [f"{columns['epochs']['mean_and_margin'][0]:.0f}", f"{columns['minutes']['mean_and_margin'][0]:.1f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")
    headline = {
        name: {metric: round(columns[metric]["mean_and_margin"][0], 4) for metric in metrics}
        for name, columns in details.items()
    }
    return headline, details
