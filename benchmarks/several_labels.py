"""Several labels an image, from a CSV to four files for phones.

Run:     python benchmarks/several_labels.py [--data .data/flower_photos] [--seeds 3] [--quick]
Each picture is a grid of four places, in which none to three flowers of different kinds stand; the other places are
blurred. A table has a column of 0 and 1 for each kind, and one for the split. No photo is in pictures of two splits:
those of flower_photos' `val` make the test pictures. The track `plants`, recipe robust, is trained on them, and writes
its files in the first of the seeds. Recorded are the means over seeds with the lowest and the highest, and the files.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import cv2
import numpy as np
import record

from keras_vision import plants
from keras_vision.classifier import Classifier
from keras_vision.files import image_files

SIDE = 32
NUMBERS = {"train": 3000, "val": 400, "test": 800}
HOW_MANY = (0.15, 0.35, 0.3, 0.2)  # Share of pictures with none, one, two and three flowers.


def photos(data, random):
    """Photos of each kind by split: `{split: {kind: [path, ...]}}`."""
    found = {"train": {}, "val": {}, "test": {}}
    for folder in sorted((data / "train").iterdir()):
        paths = random.permutation(np.array(sorted(folder.glob("*.jpg")), object))
        found["val"][folder.name], found["train"][folder.name] = np.split(paths, [len(paths) // 8])
        found["test"][folder.name] = np.array(sorted((data / "val" / folder.name).glob("*.jpg")), object)
    return found


def picture(paths, random):
    """A grid of four places with these photos in some of them."""
    whole = np.zeros((2 * SIDE, 2 * SIDE, 3), np.uint8)
    for place, path in zip(random.permutation(4), [*paths, *[None] * (4 - len(paths))], strict=True):
        row, column = SIDE * (place // 2), SIDE * (place % 2)
        if path is None:
            colours = random.integers(0, 256, (3, 3, 3)).astype(np.uint8)
            part = cv2.resize(colours, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        else:
            part = image_files.read(path, (SIDE, SIDE, 3), "crop")
        whole[row : row + SIDE, column : column + SIDE] = part
    return whole


def write(data, folder, numbers):
    """Writes pictures and their table; returns the kinds."""
    random = np.random.default_rng(0)
    found = photos(data, random)
    kinds = sorted(found["train"])
    rows = []
    for split, number in numbers.items():
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        for index in range(number):
            chosen = sorted(random.choice(kinds, random.choice(len(HOW_MANY), p=HOW_MANY), replace=False))
            image = picture([random.choice(found[split][kind]) for kind in chosen], random)
            name = f"{split}{index:05}.jpg"
            cv2.imwrite(str(folder / "pictures" / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            rows.append([name, split, *(int(kind in chosen) for kind in kinds)])
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "split", *kinds], *rows])
    return kinds


def phone_difference(file, pictures):
    """Largest difference between MediaPipe's scores and ours; None where MediaPipe is not installed."""
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision
    except ImportError:
        return None
    classifier = Classifier.open(file)
    base = BaseOptions(model_asset_path=str(file))
    options = vision.ImageClassifierOptions(base_options=base, max_results=-1)
    largest = 0.0
    with vision.ImageClassifier.create_from_options(options) as phone:
        for path in pictures:
            image = classifier.read(path)
            shown = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
            found = {item.category_name: item.score for item in phone.classify(shown).classifications[0].categories}
            ours = zip(classifier.class_names, classifier.probabilities(image[None])[0], strict=True)
            largest = max(largest, *(abs(found[name] - score) for name, score in ours))
    return float(largest)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(os.environ.get("KERAS_VISION_DATA", ".data")) / "flower_photos"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", default=None, metavar="DIR", help="keeps the pictures and the runs here")
    parser.add_argument("--quick", action="store_true", help="one seed, three epochs, few pictures")
    options = parser.parse_args()
    seeds, epochs = (1, 3) if options.quick else (options.seeds, options.epochs)
    numbers = {split: count // 20 for split, count in NUMBERS.items()} if options.quick else NUMBERS
    reports = []
    with tempfile.TemporaryDirectory() as place:
        root = Path(options.out or place)
        if not (root / "data" / "labels.csv").is_file():
            write(Path(options.data), root / "data", numbers)
        for seed in range(seeds):
            out = root / f"run-{seed}"
            flags = ["--recipe", "robust", "--data", str(root / "data" / "labels.csv"), "--size", str(2 * SIDE)]
            flags += ["--epochs", str(epochs), "--seed", str(seed), "--out", str(out), "--explain", "grad-cam"]
            # A crop may lose a flower.
            flags += ["--random-resized-crop", "0", "--zoom-range", "0.1", "--no-audit-leaks"]
            flags += ["--width", "16", "--faithfulness-images", "0", *["--qat"] * (seed == 0)]
            if not (out / "report.json").is_file() and plants.main(flags):
                return 1
            reports.append(json.loads((out / "report.json").read_text("utf-8")))
        headline = {
            name: {
                "mean": round(float(np.mean(values)), 4),
                "lowest": round(min(values), 4),
                "highest": round(max(values), 4),
            }
            for name in reports[0]["metrics"]
            if (values := [report["metrics"][name]["value"] for report in reports])
        }
        files = {
            row["scheme"]: {
                "kind": row["kind"],
                "exact_match": round(row["metrics"]["exact_match"]["value"], 4),
                "auc": round(row["metrics"]["auc"]["value"], 4),
                "changed": round(row["changed"], 4),
                "bytes": row["bytes"],
            }
            for row in reports[0]["tflite"]
        }
        pictures = sorted((root / "data" / "pictures").glob("test*"))[:50]
        headline["mediapipe"] = phone_difference(root / "run-0" / "tflite" / "qat.tflite", pictures)
        details = {"seeds": seeds, "epochs": epochs, "pictures": numbers, "first": reports[0]["classes"]}
    record.finish("several_labels", headline | {"files": files}, details)
    return 0


if __name__ == "__main__":
    sys.exit(main())
