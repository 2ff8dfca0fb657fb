"""What it is worth to a metric that frames of one subject stand in two splits.

Run:     python benchmarks/groups.py [--data .data/flower_photos] [--seeds 5] [--quick]
Twenty "patients" are twenty photos of two kinds of flowers, drawn by the seed; six frames of each are crops of it. A
small network is trained on them twice: with splits by image, and with `--group-by`, which keeps a patient's frames
together. Recorded are both test accuracies, and that of both networks on 200 photos that are in none of the frames,
which is what a user would get. The share of these that the network knows is all that a metric should promise.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")

import cv2
import numpy as np
import record

import keras_vision as kv
from keras_vision.data import load_splits
from keras_vision.files import image_files
from keras_vision.pipeline import track

CLASSES = ("roses", "tulips")
PATIENTS, FRAMES, NEW = 20, 6, 200
SIDE = 48
PATTERN = r"(P\d+)_"


def photos(data, name):
    """All photos of a class, whatever the splits."""
    return sorted(path for path in Path(data).rglob("*.jpg") if path.parent.name == name)


def frames(path, random):
    """Crops of one photo, as frames of a film differ."""
    image = image_files.decode(path.read_bytes())
    height, width = image.shape[:2]
    for _ in range(FRAMES):
        side = int(min(height, width) * random.uniform(0.7, 0.9))
        top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
        yield image_files.fit(image[top : top + side, left : left + side], SIDE, SIDE)


def write(data, seed, folder):
    """Writes the frames; returns new photos and their labels."""
    random = np.random.default_rng(seed)
    images, labels, number = [], [], 0
    for label, name in enumerate(CLASSES):
        found = random.permutation(np.array(photos(data, name), object))
        (folder / name).mkdir(parents=True)
        for path in found[: PATIENTS // 2]:
            number += 1
            for count, frame in enumerate(frames(path, random)):
                cv2.imwrite(str(folder / name / f"P{number:02}_{count}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        for path in found[PATIENTS // 2 :][: NEW // 2]:
            images.append(image_files.read(path, (SIDE, SIDE, 3), "crop"))
            labels.append(label)
    return np.array(images), np.array(labels)


def accuracy(model, images, labels):
    return float(np.mean(model.predict(np.asarray(images), verbose=0).argmax(axis=1) == labels))


def measure(data, seed, epochs):
    """`{"by image": {"test": ..., "new photos": ...}, "by group": ...}` of one seed."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        os.environ["KERAS_HOME"] = place  # Where decoded images go.
        new, labels = write(data, seed, Path(place) / "frames")
        for name, pattern in (("by image", None), ("by group", PATTERN)):
            recipe = kv.override(
                kv.recipe("plants"),
                data=str(Path(place) / "frames"),
                size=SIDE,
                group_by=pattern,
                audit_leaks=False,
                epochs=epochs,
                width=8,
                seed=seed,
            )
            with contextlib.redirect_stdout(io.StringIO()):
                splits = load_splits(recipe.data, seed)
                model, _ = track.train(recipe, splits)
            test = accuracy(model, splits.test.images[np.arange(len(splits.test))], splits.test.labels)
            found[name] = {"test": test, "new photos": accuracy(model, new, labels)}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=str(Path(os.environ.get("KERAS_VISION_DATA", ".data")) / "flower_photos"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="one seed, three epochs")
    options = parser.parse_args()
    seeds, epochs = (1, 3) if options.quick else (options.seeds, options.epochs)
    runs = []
    for seed in range(seeds):
        runs.append(measure(options.data, seed, epochs))
        print(seed, runs[-1], flush=True)
    headline = {
        f"{split}, {what}": {
            "mean": round(float(np.mean(values)), 3),
            "lowest": round(min(values), 3),
            "highest": round(max(values), 3),
        }
        for split in ("by image", "by group")
        for what in ("test", "new photos")
        if (values := [run[split][what] for run in runs])
    }
    record.finish("groups", headline, {"seeds": seeds, "epochs": epochs, "runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
