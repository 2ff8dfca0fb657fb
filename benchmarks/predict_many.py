"""`predict --shards` over 100,000 images: speed, memory, a command that is killed, and the same rows on Ray and Spark.

Run:  python benchmarks/predict_many.py [--quick]

The images are made in a temporary folder, half of them JPEG and half PNG. Other programs may use the machine meanwhile,
so each time is given by the clock and in seconds of the processors. Ray and Spark are left out where they are not
installed. Writes `results/predict_many.json`.
"""

import argparse
import csv
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import record

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "tflite_exports" / "derma-best" / "int8.tflite"
SHARDS = 40


def make_images(folder, count):
    """Writes small JPEG and PNG files into subfolders of 1,000; a list of all, and one of the first tenth."""
    random = np.random.default_rng(0)
    coarse = [random.random((6, 6, 3), np.float32) * 255 for _ in range(64)]
    paths = []
    for number in range(count):
        side = 40 + number % 60
        image = cv2.resize(coarse[number % 64], (side, side), interpolation=cv2.INTER_CUBIC)
        # No two files are the same.
        image = np.clip(image + random.integers(0, 60, 3), 0, 255).astype(np.uint8)
        path = folder / f"{number // 1000:04}" / f"{number:07}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), image)
        paths.append(str(path))
    lists = folder.parent / "all.txt", folder.parent / "tenth.txt"
    for place, part in zip(lists, (paths, paths[: count // 10]), strict=True):
        place.write_text("\n".join(part) + "\n")
    return paths, lists


def processor_seconds():
    """Of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


PLAIN = """
import sys
import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
height, width = taken["shape"][1:3]
for path in open(sys.argv[2]).read().splitlines():
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    interpreter.set_tensor(taken["index"], image[np.newaxis].astype(taken["dtype"]))
    interpreter.invoke()
    scores = interpreter.get_tensor(given["index"])[0]
    print(path, scores.argmax(), *scores, sep=",")
"""


def command(source, out, *flags):
    return [sys.executable, "-m", "keras_vision.predict", str(MODEL), str(source), "--out", str(out), *map(str, flags)]


def watched(words, images, until=None):
    """Runs a command in a session of its own; images per second, and the peak memory of its processes in MB.

    Args:
        until: Function that is asked now and then whether to kill all of them.
    """
    before, started = processor_seconds(), time.perf_counter()
    process = subprocess.Popen(
        words, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peaks = {}
    while process.poll() is None:
        note_peaks(process.pid, peaks)
        if until is not None and until():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
        time.sleep(0.1)
    seconds, used = time.perf_counter() - started, processor_seconds() - before
    print(f"{images:,} images in {seconds:.0f} s: {' '.join(words[4:])[-90:]}", file=sys.stderr, flush=True)
    assert process.returncode == 0, (words, process.returncode)
    own = peaks.pop(process.pid, 0)
    return {
        "images": images,
        "seconds": seconds,
        "processor_seconds": used,
        "images_per_second": images / seconds,
        "images_per_processor_second": images / used,
        "peak_megabytes_parent": own,
        "peak_megabytes_largest_other": max(peaks.values(), default=0),
        "peak_megabytes_sum": own + sum(peaks.values()),
    }


def note_peaks(session, peaks):
    """The largest memory so far, in MB, of each process of a session."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if os.getsid(int(entry.name)) == session:
                    lines = (entry / "status").read_text().splitlines()
                    size = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)
                    peaks[int(entry.name)] = max(peaks.get(int(entry.name), 0), size / 1024)
            except OSError:  # It has ended.
                continue


def parts(out):
    return {path.name: path.read_bytes() for path in sorted(Path(out).glob("part-*"))}


def rows(out):
    """The rows of all CSV shards, in order."""
    found = []
    for path in sorted(Path(out).glob("part-*.csv")):
        with path.open(newline="") as file:
            found += list(csv.reader(file))[1:]
    return found


def killed(folder, source, paths, reference):
    """A command whose processes are all killed, called again."""
    out = folder / "killed"
    words = command(source, out, "--shards", SHARDS, "--processes", 2)
    watched(words, len(paths), until=lambda: len(list(out.glob("part-*"))) >= SHARDS // 2)
    left = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 0 < len(left) < SHARDS
    resumed = watched(words, len(paths))
    named = [row[0] for row in rows(out)]
    kept = sum(left[name] == (out / name).stat().st_mtime_ns for name in left)
    return {
        "shards": SHARDS,
        "shards_when_killed": len(left),
        "of_them_not_written_again": kept,
        "rows": len(named),
        "different_images": len(set(named)),
        "complete": sorted(named) == sorted(paths),
        "same_bytes_as_uninterrupted": parts(out) == reference,
        "seconds_of_the_rest": resumed["seconds"],
    }


def worker_killed(folder, source, reference):
    """One process of two is killed; the command itself goes on."""
    out = folder / "one-killed"
    process = subprocess.Popen(
        command(source, out, "--shards", SHARDS, "--processes", 2),
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(list(out.glob("part-*"))) < SHARDS // 4:
        time.sleep(0.02)
    os.kill(worker_of(process.pid), signal.SIGKILL)
    said = process.communicate()[1].splitlines()
    return {
        "status": process.returncode,
        "said": next((line for line in said if "SIGKILL" in line), None),
        "same_bytes": parts(out) == reference,
    }


def worker_of(session):
    """A process of a session that predicts shards."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if os.getsid(int(entry.name)) == session and b"keras_vision.many_images.worker" in words:
                    return int(entry.name)
            except OSError:
                continue
    raise RuntimeError("No worker is running.")


RAY = """
import csv, sys
import ray
from keras_vision.many_images import Predictor
model, source, out = sys.argv[1:]
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
paths = ray.data.read_text(source).rename_columns({"text": "path"})
# Half a core each: with both cores taken, the list would never be read.
found = paths.map_batches(Predictor, fn_constructor_args=[model], batch_size=256, batch_format="pyarrow",
                          compute=ray.data.ActorPoolStrategy(size=2), num_cpus=0.5)
with open(out, "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\\n")
    for row in found.iter_rows():
        writer.writerow(row.values())
"""
SPARK = """
import csv, sys
import pandas as pd
from pyspark.sql import SparkSession
from keras_vision.many_images import Predictor
model, source, out = sys.argv[1:]
def predict(batches):
    predictor = Predictor(model)
    for batch in batches:
        yield pd.DataFrame(predictor.columns(batch["path"]))
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
scores = ", ".join(f"`{name}` double" for name in Predictor(model).score_names)
paths = spark.read.text(source).withColumnRenamed("value", "path").repartition(8)
found = paths.mapInPandas(predict, f"path string, answer string, score double, unsure boolean, error string, {scores}")
with open(out, "w", newline="") as file:
    writer = csv.writer(file, lineterminator="\\n")
    for row in found.toLocalIterator():
        writer.writerow(row)
"""


def engine(name, code, folder, source, expected):
    """The same rows from another engine, in whatever order."""
    if importlib.util.find_spec(name) is None or (name == "pyspark" and shutil.which("java") is None):
        return None
    out = folder / f"{name}.csv"
    environment = {
        **os.environ,
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    started = time.perf_counter()
    words = [sys.executable, "-c", code, str(MODEL), str(source), str(out)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with out.open(newline="") as file:
        found = list(csv.reader(file))
    return {
        "version": version(name),
        "images": len(found),
        "identical_rows": sorted(found) == sorted(expected),
        "seconds_with_start": time.perf_counter() - started,
    }


def on_ray(folder, source, expected, count):
    """`--ray local` beside two processes of its own."""
    if importlib.util.find_spec("ray") is None:
        return None
    out = folder / "ray"
    found = watched(command(source, out, "--shards", SHARDS, "--processes", 2, "--ray", "local"), count)
    return {"identical_files": parts(out) == expected, "seconds_with_start": found["seconds"]}


def measure(folder, count):
    (folder / "images").mkdir()
    paths, (everything, tenth) = make_images(folder / "images", count)
    few = len(paths) // 10
    flags = ("--shards", SHARDS, "--processes")
    speed = {
        "plain loop": watched([sys.executable, "-c", PLAIN, str(MODEL), str(tenth)], few),
        "one process, a tenth": watched(command(tenth, folder / "one-tenth", *flags, 1), few),
        "two processes, a tenth": watched(command(tenth, folder / "tenth", *flags, 2), few),
        "one process": watched(command(everything, folder / "one", *flags, 1), count),
        "two processes": watched(command(everything, folder / "two", *flags, 2), count),
    }
    whole, part = parts(folder / "two"), parts(folder / "tenth")
    assert parts(folder / "one") == whole
    expected = rows(folder / "tenth")
    return {
        "speed": speed,
        "one and two processes write the same bytes": True,
        "killed": killed(folder, everything, paths, whole),
        "one process killed": worker_killed(folder, everything, whole),
        "ray, shards": on_ray(folder, tenth, part, few),
        "ray, stage": engine("ray", RAY, folder, tenth, expected),
        "spark": engine("pyspark", SPARK, folder, tenth, expected),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=None)
    parser.add_argument("--quick", action="store_true", help="4,000 images")
    options = parser.parse_args()
    count = options.images or (4_000 if options.quick else 100_000)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), count)
    print("| what | images | a second | a processor second | MB: command, largest process, all |")
    print("|---|---|---|---|---|")
    for what, row in found["speed"].items():
        memory = ", ".join(f"{row[f'peak_megabytes_{key}']:.0f}" for key in ("parent", "largest_other", "sum"))
        rates = f"{row['images_per_second']:,.0f} | {row['images_per_processor_second']:,.0f}"
        print(f"| {what} | {row['images']:,} | {rates} | {memory} |")
    for what in list(found)[1:]:
        print(f"{what}: {json.dumps(found[what])}")
    details = {"model": str(MODEL.relative_to(ROOT)), "load_when_started": load, "machine_was_shared": load > 1}
    record.finish("predict_many_quick" if options.quick else "predict_many", found, details)


if __name__ == "__main__":
    main()
