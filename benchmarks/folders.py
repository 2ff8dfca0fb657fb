"""JPEGs from class folders per second: ours into the cache, image_dataset_from_directory, torch's loops with Pillow.

Run:     python benchmarks/folders.py [--quick] [--data .data/imagenette] [--size 64]
Each contender decodes every file in colour, resizes the shorter side to the size, crops the centre, and returns batches
of 64. Ours does more: it writes the cache, with hashes and fingerprints, so that epochs and later runs need not decode
again. They take turns on all cores that the process may use; all files are read once beforehand, so that disk time is
not counted. Numbers are medians over the turns, by wall clock and by CPU seconds (with child processes), because
machines are shared.
"""

import argparse
import contextlib
import io
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import torch  # isort: skip  (before TensorFlow, which Keras imports)
import keras
import numpy as np
import record
from PIL import Image

from keras_vision.data import picture_cache

BATCH = 64
HEADLINE_SIZE = 64


class ImageFolder(torch.utils.data.Dataset):
    """A hand-written data set with Pillow: decode, resize the shorter side, crop."""

    def __init__(self, files, size):
        self.files, self.size = files, size

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        with Image.open(self.files[index]) as opened:
            # Like ours, Pillow can decode large JPEGs at a fraction of their size.
            opened.draft("RGB", (self.size, self.size))
            image = opened.convert("RGB")
        scale = self.size / min(image.size)
        width, height = (max(self.size, round(scale * side)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        return torch.from_numpy(np.array(image.crop((left, top, left + self.size, top + self.size))))


def ours(root, files, size):
    home = tempfile.mkdtemp(prefix="folders-benchmark-")
    os.environ["KERAS_HOME"] = home
    try:
        names = [str(file.relative_to(root)) for file in files]
        with contextlib.redirect_stdout(io.StringIO()):
            return len(picture_cache.cached(root, names, (size, size, 3), "crop").names)
    finally:
        shutil.rmtree(home)


def torch_loop(workers):
    def run(root, files, size):
        del root
        return sum(map(len, torch.utils.data.DataLoader(ImageFolder(files, size), BATCH, num_workers=workers)))

    return run


def keras_dataset(root, files, size):
    """Number of images that it decodes, split by split where the folder has splits."""
    count = 0
    for folder in sorted({file.parents[1] for file in files}):
        batches = keras.utils.image_dataset_from_directory(
            folder,
            image_size=(size, size),
            batch_size=BATCH,
            crop_to_aspect_ratio=True,
            shuffle=False,
            verbose=False,
        )
        count += sum(len(images) for images, _ in batches)
    return count


CONTENDERS = {
    "ours": ours,
    "image_dataset_from_directory": keras_dataset,
    "torch_loop": torch_loop(0),
    "torch_two_workers": torch_loop(2),
}


def measured(run, root, files, size):
    """Files per second by wall clock and by CPU time."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    count = run(root, files, size)
    assert count == len(files), (count, len(files))
    return count / (time.perf_counter() - wall), count / (cpu_seconds() - cpu)


def cpu_seconds():
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def compare(root, files, size, rounds):
    """`{contender: {"wall": (median, low, high), "cpu": ...}}`."""
    speeds = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, run in CONTENDERS.items():
            speeds[name].append(measured(run, root, files, size))
    return {
        name: {
            clock: record.median_and_spread(column)
            for clock, column in zip(("wall", "cpu"), zip(*rows, strict=True), strict=True)
        }
        for name, rows in speeds.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute: one turn, the headline's size")
    parser.add_argument("--data", type=Path, default=Path(".data/imagenette"))
    parser.add_argument("--size", type=int, nargs="+", default=[HEADLINE_SIZE, 96, 32])
    options = parser.parse_args()
    sizes, rounds = (options.size[:1], 1) if options.quick else (options.size, 5)
    files = sorted(options.data.rglob("*.jpg"))
    for file in files:
        file.read_bytes()
    measured(keras_dataset, options.data, files, sizes[0])  # TensorFlow's first turn is a warm-up.
    tables = {}
    for size in sizes:
        tables[size] = compare(options.data, files, size, rounds)
        print(f"{len(files):,} JPEGs to {size} x {size}, images per second, median of {rounds} (slowest to fastest):")
        for name, row in tables[size].items():
            shown = "  ".join(
                f"{clock} {row[clock][0]:>7,.0f} ({row[clock][1]:,.0f} to {row[clock][2]:,.0f})" for clock in row
            )
            print(f"  {name:<30} {shown}")
    table = tables[sizes[0]]
    fastest = {clock: max(row[clock][0] for name, row in table.items() if name != "ours") for clock in ("wall", "cpu")}
    headline = {
        "images_per_second": round(table["ours"]["wall"][0]),
        "ratio_to_best_peer": round(table["ours"]["wall"][0] / fastest["wall"], 2),
    }
    details = {"data": options.data.name, "files": len(files), "rounds": rounds, "images_per_second": tables}
    record.finish("folders" + ("_quick" if options.quick else ""), headline, details)


if __name__ == "__main__":
    main()
