"""Hostile and damaged files: every reader refuses them in one sentence, or reads what is left.

Run:     python benchmarks/hostile.py [--quick] [--count 50000] [--kinds tflite npz] [--only SEED]
Small valid files of every kind that the package reads are damaged in a way that a seed decides: flipped bits, cuts,
zeros, wrong lengths, two files spliced; contradictions inside a valid structure; archives that expand, deep nesting,
huge shapes; payloads that would create a file if anything ran them; links, pipes, devices and folders in place of
files. Each goes through the readers behind `predict`, `audit`, `compare` and the tracks, in processes that are
replaced when they crash. Counted: files accepted and refused in one sentence; raw exceptions, deaths of a process and
executed payloads, which must all be 0; the largest memory and the longest time of one file. `contained` counts files
at which a native library crashed, or exceeded its memory, in the child process that tries it first. Exit status 1 if a
count that must be 0 is not.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import hostile_files
import record

SECONDS = 100  # For one file; longer counts as a death.
WORKERS = 2
SENTENCE = 4000  # Characters.


# The processes that read.


def answer(seed, kinds, seeds, folder):
    """What the readers make of one seed's file."""
    from keras_vision.recipe import InputError

    found = {"seed": seed, "outcome": "accepted"}
    canary = Path(folder) / "canary"
    kind, mutation, path = hostile_files.make(seed, kinds, seeds, Path(folder), canary)
    found |= {"kind": kind, "mutation": mutation}
    before, started = _reset_memory(), time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            hostile_files.READERS[kind](path)
    except InputError as error:
        found["outcome"] = "refused"
        # Without the temporary folder.
        text = str(error).replace(f"{path.parent}{os.sep}", "")
        found["sentence"] = text[:300]
        if "\n" in text.strip() or len(text) > SENTENCE:
            found |= {"outcome": "exception", "error": f"no sentence: {text[:300]!r}"}
        elif "the library that reads such files crashes" in text:
            found["contained"] = True
    except BaseException as error:
        found |= {"outcome": "exception", "error": f"{type(error).__name__}: {error}"[:300]}
        found["trace"] = traceback.format_exc()[-2500:]
    found["seconds"] = time.perf_counter() - started
    found["megabytes"] = max(0, _memory() - before)
    if canary.exists():
        found["outcome"] = "execution"
        canary.unlink()
    return found


def _processes():
    """This process and the children that try files."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    return ["self", *(children.read_text().split() if children.exists() else ())]


def _reset_memory():
    """Megabytes of these processes now; the peak is measured from here."""
    for process in _processes():
        with contextlib.suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text("5")
    return sum(_of_status(process, "VmRSS") for process in _processes())


def _memory():
    """The peak since then."""
    return sum(_of_status(process, "VmHWM") for process in _processes())


def _of_status(process, name):
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def work(kinds, seeds):
    """A process that reads: a seed a line on standard input, an answer a line on standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(answer(int(line), kinds, seeds, folder)), file=answers, flush=True)


class Worker:
    """A process that reads, replaced when it dies."""

    def __init__(self, kinds, seeds):
        self.command = [sys.executable, __file__, "--worker", str(seeds), "--kinds", *kinds]
        self.process = None

    def ask(self, seed):
        if self.process is None:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        timer = threading.Timer(SECONDS, self.process.kill)
        timer.start()
        line = ""
        with contextlib.suppress(OSError):
            self.process.stdin.write(f"{seed}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self.process.kill()
        status = self.process.wait()
        self.process = None
        return {"seed": seed, "outcome": "death", "error": f"status {status}", "seconds": 0, "megabytes": 0}

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


# The process that counts.


def run(count, first, kinds, seeds):
    """Answers to seeds, as they come."""
    waiting = queue.Queue()
    for seed in range(first, first + count):
        waiting.put(seed)
    found = queue.Queue()

    def serve():
        worker = Worker(kinds, seeds)
        with contextlib.suppress(queue.Empty):
            while True:
                found.put(worker.ask(waiting.get_nowait()))
        worker.close()

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        done = [pool.submit(serve) for _ in range(WORKERS)]
        for _ in range(count):
            yield found.get()
        for future in done:
            future.result()


def summary(answers, kinds):
    """Counts of each kind of file."""
    table = {}
    for kind in kinds:
        own = [item for item in answers if item["kind"] == kind]
        outcomes = collections.Counter(item["outcome"] for item in own)
        table[kind] = {
            "files": len(own),
            **{name: outcomes[name] for name in ("accepted", "refused", "exception", "death", "execution")},
            "contained": sum(item.get("contained", False) for item in own),
            "largest_megabytes": round(max((item["megabytes"] for item in own), default=0)),
            "longest_seconds": round(max((item["seconds"] for item in own), default=0), 2),
        }
    return table


def show(item):
    place = f"--only {item['seed']} ({item['kind']}, {item['mutation']})"
    print(f"{item['outcome']}: {item.get('error', '')}  {place}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 files")
    parser.add_argument("--count", type=int, default=50_000, metavar="N", help="how many files (default: 50000)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="first seed (default: 0)")
    parser.add_argument("--kinds", nargs="+", choices=hostile_files.KINDS, default=hostile_files.KINDS)
    parser.add_argument("--only", type=int, default=None, metavar="SEED", help="one file, in this process")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.kinds, Path(options.worker))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder)
        hostile_files.write_seeds(seeds)
        hostile_files.require_valid(seeds)
        if options.only is not None:
            with tempfile.TemporaryDirectory() as place:
                found = answer(options.only, options.kinds, seeds, place)
            print(found.pop("trace", ""))
            print(json.dumps(found))
            return 0
        count = 2000 if options.quick else options.count
        answers, started = [], time.monotonic()
        for item in run(count, options.first, options.kinds, seeds):
            if item["outcome"] == "death":
                item |= dict(zip(("kind", "mutation"), hostile_files.plan(item["seed"], options.kinds), strict=True))
            answers.append(item)
            if item["outcome"] not in ("accepted", "refused"):
                show(item)
            if len(answers) % max(1000, count // 50) == 0:
                print(f"{len(answers)}/{count} files, {time.monotonic() - started:.0f} s", flush=True)
    table = summary(answers, options.kinds)
    print(f"{'kind':<8}" + "".join(f"{name.replace('_', ' '):>19}" for name in next(iter(table.values()))))
    for kind, row in table.items():
        print(f"{kind:<8}" + "".join(f"{value:>19}" for value in row.values()))
    wrong = [item for item in answers if item["outcome"] not in ("accepted", "refused")]
    headline = {
        name: sum(row[name] for row in table.values())
        for name in ("files", "accepted", "refused", "exception", "death", "execution", "contained")
    }
    headline |= {name: max(row[name] for row in table.values()) for name in ("largest_megabytes", "longest_seconds")}
    details = {"first_seed": options.first, "kinds": table, "wrong": wrong[:50]}
    details["slowest"] = sorted(answers, key=lambda item: -item["seconds"])[:5]
    details["seconds"] = round(time.monotonic() - started)
    record.finish("hostile" + ("_quick" if options.quick else ""), headline, details)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
