"""Is a sweep's work shared and done once, whoever is killed? Counted over ways of being killed, and over Ray.

Run:     python benchmarks/sweep.py [--ray] [--quick]
Measures a sweep of six small runs of `derma` on generated images, two settings with three seeds. Two claimers give the
same command side by side. When one of them has saved a checkpoint it is killed with SIGKILL, in one case alone, in the
other with its training, as when a machine goes down. Then the claimer that is left ends the sweep. `--ray` does the
same sweep over a local Ray, where the training that is killed is tried again by Ray, and a claimer without Ray helps.

Counted: finished runs; sessions of each run, from its log; epochs that were trained, of those that were needed.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record

EPOCHS, SEEDS, RATES = 8, "0-2", "0.001,0.003"
RUNS = 6
FLAGS = (
    f"--data synthetic --limit 120 --batch-size 8 --epochs {EPOCHS} --patience 0 --explain none --bootstrap 20 "
    f"--checkpoint-seconds 0 --seeds {SEEDS} --set learning_rate={RATES}"
)
TIME_LIMIT = 900


def claimer(out, name, *flags):
    """A process that gives the sweep's command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "torch")}
    command = [sys.executable, "-m", "keras_vision", "sweep", "derma", *FLAGS.split(), "--out", str(out), *flags]
    with open(out.with_name(f"{out.name}-{name}.txt"), "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def children(pid):
    """The processes that a process has started, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *children(child)]
    return found


def trainings(pid):
    """Those of them that train: not the ones of Ray."""
    return [child for child in children(pid) if b"--learning-rate" in Path(f"/proc/{child}/cmdline").read_bytes()]


def checkpointed(pid):
    """A training under a process that has saved a checkpoint and is not near its end; None if there is none."""
    for child in trainings(pid):
        words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        place = Path(words[words.index("--out") + 1])
        log = place.parents[1] / "logs" / f"{place.name}.log"
        epochs = len(re.findall("val_loss", log.read_text())) if log.exists() else 0
        if (place.with_name(f"{place.name}.partial") / "resume/training/newest.state").exists() and epochs < EPOCHS - 3:
            return child
    return None


def when_checkpointed(process):
    """Waits for a training of a claimer that has saved a checkpoint."""
    ends = time.monotonic() + TIME_LIMIT
    while time.monotonic() < ends and process.poll() is None:
        try:
            if (child := checkpointed(process.pid)) is not None:
                return child
        except FileNotFoundError:
            pass  # A process that ended between two looks.
        time.sleep(0.05)
    raise RuntimeError("No training has saved a checkpoint.")


def outcome(out):
    """Finished runs, sessions, trained epochs, and resumed runs of a sweep."""
    logs = [path.read_text() for path in sorted((out / "logs").glob("baseline*.log"))]
    return {
        "finished": len(list(out.glob("runs/*/report.json"))),
        "unfinished": len(list(out.glob("runs/*.partial"))),
        "sessions": [len(re.findall(r"^--- ", log, re.MULTILINE)) for log in logs],
        "resumed": sum("Resuming after" in log for log in logs),
        "reports": [len(re.findall(r"^Report: ", log, re.MULTILINE)) for log in logs],
        "epochs": sum(len(re.findall("val_loss", log)) for log in logs),
        "epochs_needed": RUNS * EPOCHS,
    }


def scenario(folder, name, victims, first_flags=()):
    """Two claimers, one of which is killed; what is left."""
    out, started = folder / name, time.perf_counter()
    first, second = claimer(out, "first", *first_flags), claimer(out, "second")
    child = when_checkpointed(first)
    for pid in victims(first, child):
        os.kill(pid, signal.SIGKILL)
    statuses = [process.wait(TIME_LIMIT) for process in (first, second)]
    return {**outcome(out), "statuses": statuses, "seconds": round(time.perf_counter() - started)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ray", action="store_true", help="over a local Ray, too")
    parser.add_argument("--quick", action="store_true", help="one case only")
    options = parser.parse_args()
    cases = {
        "a claimer and its training": (lambda first, child: [first.pid, child], ()),
        "a claimer alone": (lambda first, child: [first.pid], ()),
    }
    if options.quick:
        cases.pop("a claimer alone")
    if options.ray:
        cases["a training under Ray"] = (lambda first, child: [child], ("--ray", "local"))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (victims, flags)) in enumerate(cases.items()):
            found = results[name] = scenario(Path(folder), f"sweep{number}", victims, flags)
            print(
                f"killed: {name:<28} {found['finished']} of {RUNS} finished, sessions {found['sessions']}, "
                f"{found['resumed']} resumed, {found['epochs']} of {found['epochs_needed']} epochs, "
                f"exit {found['statuses']}, {found['seconds']} s",
                flush=True,
            )
    record.finish("sweep", results, {"flags": FLAGS})


if __name__ == "__main__":
    main()
