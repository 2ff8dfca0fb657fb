"""Which modified copies of an image the leak audit finds, and what it finds in real folders.

Run:     python benchmarks/leaks.py [--quick] [--data .data/fracatlas .data/flower_photos]
Evenly spaced images of a folder are copied in several ways; the copies are the test split, and all images of the folder
are train. Found: the share of the copies that are reported together with their original. The folder's own leaks are
those between its splits; a track's report shows them.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import record

from keras_vision.data import leaks, load_splits
from keras_vision.data.rows import Rows
from keras_vision.data.splits import Source, Split, Splits
from keras_vision.files import image_files
from keras_vision.recipe import DataSpec

SIDE = 128


def jpeg(image, quality=80):
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)[..., np.newaxis]


def cut(image, near, far):
    """The image without a share of its side at the upper left, and one at the lower right."""
    near, far = (round(share * len(image)) for share in (near, far))
    return image_files.fit(image[near : len(image) - far, near : len(image) - far], SIDE, SIDE)


def rotated(image, degrees):
    matrix = cv2.getRotationMatrix2D((SIDE / 2 - 0.5,) * 2, degrees, 1)
    return cv2.warpAffine(image, matrix, (SIDE, SIDE))[..., np.newaxis]


def mirrored(image):
    return np.ascontiguousarray(image[:, ::-1])


COPIES = {
    "recompressed, quality 50": lambda image: jpeg(image, 50),
    "made half as large": lambda image: image_files.fit(image, SIDE // 2, SIDE // 2),
    "20 % brighter": lambda image: np.clip(1.2 * image, 0, 255).astype(np.uint8),
    "gamma .7": lambda image: (255 * (image / 255) ** 0.7).astype(np.uint8),
    "mirrored, recompressed": lambda image: jpeg(mirrored(image)),
    "quarter turn, recompressed": lambda image: jpeg(np.ascontiguousarray(np.rot90(image))),
    "cut by 2.5 % on each side": lambda image: cut(image, 0.025, 0.025),
    "cut by 5 % on each side": lambda image: cut(image, 0.05, 0.05),
    "cut by 5 % on two sides": lambda image: cut(image, 0, 0.05),
    "rotated by 3 degrees": lambda image: rotated(image, 3),
    "rotated by 10 degrees": lambda image: rotated(image, 10),
}


def share_found(images, rows, change):
    """Share of the modified copies of some images that are found."""
    copies = np.array([image_files.fit(change(images[int(row)]), SIDE, SIDE) for row in rows])
    labels = np.zeros(len(images), np.int64)
    empty = Split(copies[:0], labels[:0])
    splits = Splits(Split(images, labels), empty, Split(copies, labels[: len(rows)]), ("all",), Source("", "", ""))
    pairs = {leak.rows for leak in leaks.find(splits)}
    return float(np.mean([(int(row), index) in pairs for index, row in enumerate(rows)]))


def all_images(splits):
    """The images of all splits of a folder, as one array."""
    parts = [split.images for split in splits.named().values()]
    assert all(isinstance(part, Rows) for part in parts)
    return np.concatenate([part[:] for part in parts])


def measure(folder, count):
    """Measurements of one folder: its own leaks, the CPU seconds to find them, and the share of copies found."""
    spec = DataSpec(data=str(folder), size=SIDE, color="gray", audit_leaks=False)
    splits = load_splits(spec)
    started = time.process_time()
    own = leaks.find(splits)
    seconds = time.process_time() - started
    images = all_images(splits)
    rows = np.linspace(0, len(images) - 1, count).astype(int)
    return {
        "images": len(images),
        "exact": sum(leak.exact for leak in own),
        "near": sum(not leak.exact for leak in own),
        "cpu_seconds": round(seconds, 1),
        "copies": count,
        "found": {name: share_found(images, rows, change) for name, change in COPIES.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute: fewer copies")
    parser.add_argument("--data", type=Path, nargs="+", default=[Path(".data/fracatlas"), Path(".data/flower_photos")])
    options = parser.parse_args()
    tables = {folder.name: measure(folder, 40 if options.quick else 400) for folder in options.data}
    for name, row in tables.items():
        print(
            f"{name}: {row['exact']} exact and {row['near']} near duplicates in two splits, {row['cpu_seconds']} CPU s"
        )
        for copy, share in row["found"].items():
            print(f"  {copy:<28} {100 * share:>6.1f} % of {row['copies']} found")
    headline = {name: {"exact": row["exact"], "near": row["near"]} for name, row in tables.items()}
    record.finish("leaks" + ("_quick" if options.quick else ""), headline, tables)


if __name__ == "__main__":
    main()
