"""From ImageNet weights to a classifier: the recipes of `train` beside three common ways, from the same weights.

Run:     python benchmarks/transfer.py --data FOLDER [--size 160] [--seeds 3] [--only NAME ...] [--threads 2] [--quick]
Peers:   `torch_transfer.py`
         python benchmarks/transfer.py --data FOLDER --choose --size 192 --only finetune     for choosing: without test
Every training is a process of its own, alone, with the same training, validation and test images; the test split is
read once by the finished model. Minutes and processor time are those of the whole process, from the files to the
metrics, and of ours also of the report. Results that exist are kept; --again measures anew.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record
from trainings import THREADS, mean_and_margin

PEERS = ("probe", "model_maker", "model_maker_finetune", "torchvision")
OURS = ("frozen", "finetune")
METRICS = ("accuracy", "balanced_accuracy", "auc", "sensitivity", "specificity")
COSTS = ("minutes", "processor_seconds", "peak_megabytes")


def command(name, seed, options, out):
    here, size = Path(__file__).parent, ["--size", str(options.size)]
    common = ["--data", options.data, "--seed", str(seed), "--out", out, *size, *options.flags]
    common += ["--limit", "60"] if options.quick else []
    if name in PEERS:
        return [sys.executable, str(here / "torch_transfer.py"), "--method", name, *common]
    quick = ["--epochs", "2"] if options.quick else []
    quick += ["--val-share", "0.25", "--judge-on", "val"] if options.choose else []
    track = [sys.executable, "-m", f"keras_vision.{options.track}"]
    recipe = name if options.track == "train" else "pretrained"
    return [*track, "--recipe", recipe, "--explain", "none", *common, *quick]


def measure(name, seed, options):
    """A row: metrics on test with intervals, accuracy on validation, minutes, processor seconds, peak megabytes."""
    environment = {**os.environ, **dict.fromkeys(THREADS, str(options.threads)), "KERAS_BACKEND": options.backend}
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "log"), "w+") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            command(name, seed, options, os.path.join(folder, "run")),
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            sys.exit(f"{name}, seed {seed}, ended with {process.returncode}:\n{log.read()[-2000:]}")
        report = json.loads(Path(folder, "run", "report.json").read_text("utf-8"))
    point = report.get("operating_point") or {"at_threshold": {}}
    found = {**report["metrics"], **point["at_threshold"]}
    return {
        **{metric: found[metric] for metric in METRICS if isinstance(found.get(metric), dict)},
        "validation_accuracy": report["validation_metrics"]["accuracy"]["value"],
        "minutes": seconds / 60,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss / 1024,
    }


def summary(rows):
    """Of each way the means over seeds; of the metrics also half the width of a 95 % t interval over them."""
    found = {}
    for name, seeds in rows.items():
        values = list(seeds.values())
        found[name] = {"seeds": len(values)}
        for metric in METRICS:
            if all(metric in row for row in values):
                found[name][metric], found[name][f"{metric}_margin"] = mean_and_margin(
                    [row[metric]["value"] for row in values]
                )
        for cost in COSTS:
            found[name][cost] = statistics.mean(row[cost] for row in values)
    return found


def table(found):
    """A Markdown table of a summary."""
    metrics = [metric for metric in METRICS if all(metric in row for row in found.values())]
    print("| way | " + " | ".join([*metrics, "seeds", *COSTS]).replace("_", " ") + " |")
    print("|---" * (len(metrics) + 2 + len(COSTS)) + "|")
    for name, row in found.items():
        cells = [f"{row[metric]:.3f} ± {row[f'{metric}_margin']:.3f}" for metric in metrics]
        costs = [f"{row[COSTS[0]]:.1f}", *(f"{row[cost]:,.0f}" for cost in COSTS[1:])]
        print(f"| `{name}` | " + " | ".join([*cells, str(row["seeds"]), *costs]) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="flower_photos", help="folder, or name of a data set")
    parser.add_argument("--track", default="train", choices=("train", "bones", "plants"))
    parser.add_argument("--size", type=int, default=160, help="side of the images in pixels")
    parser.add_argument("--flags", nargs="+", default=[], help="how images are read, such as color=gray drop-leaks")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[*OURS, *PEERS], help="ways to measure (default: all)")
    parser.add_argument("--backend", default="tensorflow", help="of ours")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--choose", action="store_true", help="ours alone, judged on a quarter of the training images instead of test"
    )
    parser.add_argument("--quick", action="store_true", help="60 images of each split, one seed, writes no file")
    parser.add_argument("--again", action="store_true", help="measure again what is known")
    options = parser.parse_args()
    options.flags = [f"--{flag}" for flag in options.flags]
    name = f"transfer_{Path(options.data).name}"
    if options.choose:
        name += f"_choose_{options.size}"
        options.only = [way for way in options.only if way in OURS]
    place = record.RESULTS / f"{name}.json"
    settings = [options.track, options.size, *options.flags, options.backend, options.threads]
    known = json.loads(place.read_text("utf-8"))["details"] if place.is_file() else {}
    rows = known.get("rows", {}) if known.get("settings") == settings and not (options.again or options.quick) else {}
    for seed in range(1 if options.quick else options.seeds):
        for way in options.only:
            if str(seed) not in rows.setdefault(way, {}):
                rows[way][str(seed)] = measure(way, seed, options)
                print(f"{way}, seed {seed}: {json.dumps(rows[way][str(seed)])}", flush=True)
                if not options.quick:
                    record.finish(name, summary(rows), {"settings": settings, "rows": rows})
    table(summary(rows))
    print(json.dumps(summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
