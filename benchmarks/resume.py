"""Is a run that was killed at random moments the run that nobody touched? Counted over recipes and backends.

Run:     python benchmarks/resume.py [--backends torch jax tensorflow] [--runs 21] [--quick]
Measures `derma` on generated images, one core a run, a checkpoint after every epoch. Each run is killed with SIGKILL,
together with its child processes, at moments drawn from the seed, and started again with the same command, until it is
finished. Then its weights, history (but for times), predictions and integer file are compared with those of an
uninterrupted run, bit by bit. Every recipe also runs twice without interruption: where those two differ, the backend
itself is not bit-stable, and the comparison says nothing. Two runs go at once.

The cost is measured apart: the seconds that checkpoints take, as a share of the training's, in a run of `derma` with
as many images as DermaMNIST has, with a checkpoint after every epoch and with the default of one in 30 seconds.
"""

import argparse
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import record

COMMON = "--data synthetic --limit 220 --batch-size 16 --explain none --checkpoint-seconds 0 --patience 0"
RECIPES = {
    "sgd, steps": "--epochs 6 --optimizer sgd --momentum 0.9 --schedule step --step-epochs 2",
    "adam, averaged": "--epochs 6 --ema-momentum 0.9 --schedule constant",
    "adam, plateau, early stopping": "--epochs 9 --schedule plateau --plateau-patience 1 --patience 3",
    "adamw, cosine, mixup": "--epochs 6 --optimizer adamw --weight-decay 0.05 --schedule cosine --augment --mixup 0.2",
    "adam, bfloat16": "--epochs 5 --precision mixed_bfloat16",
    "adam, class weights": "--epochs 6 --class-weight balanced --augment",
    "fine-tuning for integers": "--epochs 3 --qat --qat-epochs 4",
}
MOST_KILLS = 9  # Then a run is left to finish.
TIME_LIMIT = 900
# One core: JAX promises equal sums with one thread only.
START = """
import os, runpy, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
sys.argv = sys.argv[1:]
runpy.run_module("keras_vision.derma", run_name="__main__", alter_sys=True)
"""


def start(backend, flags, out, core):
    """A session of a run, in a process group of its own."""
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        **dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"),
    }
    command = [sys.executable, "-c", START, str(core), *COMMON.split(), *flags, "--out", str(out)]
    with open(out.with_suffix(".log"), "a") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def finish(backend, flags, out, core):
    """Seconds of a session that nobody interrupts."""
    started = time.perf_counter()
    process = start(backend, flags, out, core)
    if process.wait(TIME_LIMIT):
        raise RuntimeError(f"{backend} {flags}: status {process.returncode}, see {out.with_suffix('.log')}")
    return time.perf_counter() - started


def outcome(out):
    """What a run leaves, without times."""
    found = {"predictions": hashlib.sha256((out / "predictions.csv").read_bytes()).hexdigest()}
    rows = [line.split(",") for line in (out / "history.csv").read_text().splitlines()]
    found["history"] = [[cell for name, cell in zip(rows[0], row, strict=True) if name != "seconds"] for row in rows]
    with zipfile.ZipFile(out / "model.keras") as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    weights = []
    with h5py.File(content) as file:
        file.visititems(
            lambda name, item: weights.append(item[()].tobytes()) if isinstance(item, h5py.Dataset) else None
        )
    found["weights"] = hashlib.sha256(b"".join(weights)).hexdigest()
    # The metadata of a file has no time; its tensors' names may have numbers that Keras counts within a process.
    for file in sorted((out / "tflite").glob("*.json")):
        card = json.loads(file.read_text())
        found[file.stem] = card["metrics"]
    return found


def killed(backend, flags, out, core, seconds, rng):
    """Number of kills until a run was finished."""
    kills = 0
    while kills < MOST_KILLS:
        process = start(backend, flags, out, core)
        try:
            # Not before anything can have happened; often after the end of what is left.
            if process.wait(rng.uniform(0.3, 1.0) * seconds):
                raise RuntimeError(f"{backend} {flags}: status {process.returncode}, see {out.with_suffix('.log')}")
            return kills
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            if (out / "report.json").is_file():  # It was finished already, and about to end.
                return kills
    finish(backend, flags, out, core)
    return kills


def one_recipe(folder, backend, name, runs, core, seed):
    """The counts of one recipe on one backend."""
    flags = RECIPES[name].split()
    place = folder / backend / name.replace(", ", "-").replace(" ", "-")
    place.mkdir(parents=True)
    finish(backend, flags, place / "clean", core)
    seconds = finish(backend, flags, place / "again", core)
    expected, again = outcome(place / "clean"), outcome(place / "again")
    rng = np.random.default_rng(seed)
    kills, identical = 0, 0
    for number in range(runs):
        out = place / f"run{number}"
        kills += killed(backend, flags, out, core, seconds, rng)
        same = outcome(out) == expected
        identical += same
        if not same:
            differing = [key for key, value in outcome(out).items() if value != expected[key]]
            print(f"{backend}, {name}, run {number}: {', '.join(differing)} differ", flush=True)
    row = {"finished": runs, "identical": identical, "kills": kills, "stable": again == expected}
    print(
        f"{backend:<12}{name:<32}{identical} of {runs} identical, {kills} kills, clean runs equal: {row['stable']}",
        flush=True,
    )
    return row


def cost(folder, backend, seconds):
    """Milliseconds of a checkpoint and their share of the training, at the size of DermaMNIST."""
    out = folder / f"cost-{backend}-{seconds:g}"
    flags = f"--data {folder / 'images.npz'} --limit 10015 --epochs 5 --batch-size 64 --checkpoint-seconds {seconds}"
    finish(backend, flags.split(), out, 0)
    training = json.loads((out / "report.json").read_text())["training"]
    written, spent = training["checkpoints"]["written"], training["checkpoints"]["seconds"]
    return {"milliseconds": 1000 * spent / max(1, written), "written": written, "share": spent / training["seconds"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", nargs="+", default=["torch", "jax", "tensorflow"])
    parser.add_argument("--runs", type=int, default=3, help="finished runs of each recipe on each backend")
    parser.add_argument("--quick", action="store_true", help="one run of one recipe on torch")
    options = parser.parse_args()
    if options.quick:
        options.backends, options.runs = ["torch"], 1
    names = list(RECIPES)[:1] if options.quick else list(RECIPES)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        folder = Path(folder)
        cores = sorted(os.sched_getaffinity(0))
        rng = np.random.default_rng(0)
        counts = {"train": 7007, "val": 1003, "test": 2005}
        arrays = {
            f"{split}_images": rng.integers(0, 256, (count, 28, 28, 3), np.uint8) for split, count in counts.items()
        }
        arrays |= {f"{split}_labels": rng.integers(0, 7, (count, 1)) for split, count in counts.items()}
        np.savez(folder / "images.npz", **arrays)
        costs = {
            backend: {f"{seconds:g} s": cost(folder, backend, seconds) for seconds in (0, 30)}
            for backend in options.backends
        }
        print(json.dumps(costs, indent=1))
        jobs = {
            (backend, name): pool.submit(
                one_recipe, folder, backend, name, options.runs, cores[number % len(cores)], number
            )
            for number, (backend, name) in enumerate(itertools.product(options.backends, names))
        }
        rows = {f"{backend}, {name}": job.result() for (backend, name), job in jobs.items()}
    totals = {key: sum(row[key] for row in rows.values()) for key in ("identical", "finished", "kills")}
    share = max(found["0 s"]["share"] for found in costs.values())
    headline = {**totals, "checkpoint_share": round(share, 4)}
    record.finish("resume_quick" if options.quick else "resume", headline, {"recipes": rows, "costs": costs})


if __name__ == "__main__":
    main()
