"""Memory and seconds of the report of a run with many classes: 10, 100 and 1,000, with 100 test images of each.

Run:     python benchmarks/many_classes.py [--quick]
Scores and 8 x 8 images are drawn from a seed; the validation split has 10 images of each class. Each number of classes
has a process of its own, which makes the arrays first. Then it computes the metrics of both splits with 1,000 bootstrap
resamples and writes the report: plots, page and JSON file. Memory is the process's peak beyond what it had with the
arrays, from getrusage, which counts in kB on Linux. At most 1,000 MB and 60 seconds are wanted.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import record

CLASSES = (10, 100, 1000)
TEST_IMAGES, VAL_IMAGES = 100, 10  # Of each class.


def drawn(classes, each, seed):
    """Labels and probabilities of a classifier that is right half of the time, and often wrong by one class."""
    import numpy as np

    from keras_vision import evaluation

    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    probabilities = np.empty((len(labels), classes))
    for rows in np.array_split(np.arange(len(labels)), classes):  # Class by class: no second array of this size.
        logits = rng.standard_normal((len(rows), classes))
        logits[np.arange(len(rows)), labels[rows]] += 4
        logits[np.arange(len(rows)), (labels[rows] + 1) % classes] += 3
        probabilities[rows] = evaluation.softmax(logits)
    return labels, probabilities


def peak():
    """The most memory that the process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(classes):
    """Peak memory and seconds of one report."""
    import dataclasses

    import numpy as np

    from keras_vision import evaluation
    from keras_vision.pipeline.report import Report
    from keras_vision.pipeline.report_page import write_report
    from keras_vision.recipe import Recipe

    labels, probabilities = drawn(classes, TEST_IMAGES, 0)
    val_labels, val_probabilities = drawn(classes, VAL_IMAGES, 1)
    images = np.random.default_rng(2).integers(0, 256, (len(labels), 8, 8, 3), np.uint8)
    before, started = peak(), time.perf_counter()
    judgement = evaluation.judge(labels, probabilities)
    validation = evaluation.judge(val_labels, val_probabilities)
    metrics_peak, metrics_seconds = peak() - before, time.perf_counter() - started
    counts = np.random.default_rng(3).integers(50, 1300, classes).tolist()
    report = Report(
        track="many_classes",
        recipe=dataclasses.asdict(Recipe()),
        environment={"backend": "none"},
        data={
            "name": f"{classes} classes",
            "description": "Scores from a seed",
            "licence": "none",
            "files": {},
            "counts": {"train": counts, "val": [VAL_IMAGES] * classes, "test": [TEST_IMAGES] * classes},
        },
        class_names=tuple(f"a class that is called {label}" for label in range(classes)),
        epochs=({"loss": 1.0, "val_loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.5},) * 10,
        best_epoch=10,
        train_seconds=1.0,
        parameters=1,
        split="test",
        judgement=judgement,
        validation=validation,
        training_correct=2500,
        training_images=5000,
        labels=labels,
        probabilities=probabilities,
        images=images,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_report(report, Path(folder))
        files = {file.name: file.stat().st_size for file in sorted(Path(folder).rglob("*.*"))}
    return {
        "classes": classes,
        "images": len(labels),
        "peak_mb": round(peak() - before),
        "seconds": round(time.perf_counter() - started, 1),
        "metrics_peak_mb": round(metrics_peak),
        "metrics_seconds": round(metrics_seconds, 1),
        "arrays_mb": round((probabilities.nbytes + val_probabilities.nbytes + images.nbytes) / 2**20),
        "bytes": files,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 and 100 classes")
    parser.add_argument("--classes", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.classes:
        print(json.dumps(measure(options.classes)))
        return
    rows = []
    for classes in CLASSES[:2] if options.quick else CLASSES:
        command = [sys.executable, __file__, "--classes", str(classes)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ)
        row = json.loads(done.stdout.splitlines()[-1])
        rows.append(row)
        print(
            f"{classes:>5} classes, {row['images']:>7,} images: {row['peak_mb']:>5,} MB beyond the arrays' "
            f"{row['arrays_mb']:,} MB, {row['seconds']} s ({row['metrics_seconds']} s of it the metrics), page of "
            f"{row['bytes']['report.html'] / 1e6:.1f} MB",
            flush=True,
        )
    headline = {name: rows[-1][name] for name in ("classes", "peak_mb", "seconds")}
    record.finish("many_classes" + ("_quick" if options.quick else ""), headline, {"rows": rows})


if __name__ == "__main__":
    main()
