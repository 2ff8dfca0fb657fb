"""Does `training.profile` find a slow input pipeline on real files, and does our cache mend it?

Run:     KERAS_BACKEND=torch python benchmarks/slow_input.py [--quick] [--data .data/imagenette]
Measures one epoch of `imagenette`'s first recipe twice in one process, by `training.profile`: with every JPEG decoded
again whenever its batch is made, as a plain data set class does, and with the cache that a run writes. Same network,
augmentation, order and batches. Writes results/slow_input_BACKEND.json.
"""

import argparse
import dataclasses
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import record

from keras_vision import data, training
from keras_vision.data.splits import Split
from keras_vision.files import image_files
from keras_vision.imagenette import RECIPES
from keras_vision.pipeline import tables, track
from keras_vision.recipe import override


class Files:
    """Images that are decoded at each access."""

    def __init__(self, root, names, image_shape, resize):
        self.paths = [root / name for name in names]
        self.image_shape, self.resize = image_shape, resize
        self.shape, self.dtype, self.ndim = (len(names), *image_shape), np.dtype(np.uint8), 4

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        rows = np.arange(len(self))[index]
        return np.stack([image_files.read(self.paths[row], self.image_shape, self.resize) for row in rows])


def profiled(recipe, splits, images):
    """One epoch's profile, with these images as the training split's."""
    track.seed_everything(recipe.seed)
    model = track.network(recipe, splits)
    source = dataclasses.replace(splits, train=Split(images, splits.train.labels))
    batches = track.train_batches(recipe, source)
    training.compile_model(model, recipe.training, steps_per_epoch=len(batches))
    val = data.Batches(splits.val, splits.num_classes, track.PREDICT_BATCH)
    return training.profile(model, batches, val=val)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=".data/imagenette", help="Imagenette's folder")
    parser.add_argument("--quick", action="store_true", help="the first 256 training images")
    options = parser.parse_args()
    recipe = override(next(iter(RECIPES.values())), data=options.data)
    splits = data.load_splits(recipe.data, recipe.seed)
    count = 256 if options.quick else len(splits.train)
    train = Split(splits.train.images[:count], splits.train.labels[:count])
    splits = dataclasses.replace(splits, train=train)
    files = Files(Path(options.data), splits.report.names["train"][:count], splits.image_shape, recipe.data.resize)
    assert np.array_equal(files[:8], train.images[:8]), "the cache has other pixels than the files"
    backend = keras.backend.backend()
    details, headline = {}, {"backend": backend, "images": count}
    for name, images in {"decoded_every_epoch": files, "cached": train.images}.items():
        found = profiled(recipe, splits, images)
        print(f"\n{name} on {backend}, {count:,} images")
        print(tables.text_table(*found.table()))
        details[name] = found.to_dict()
        waiting = round(found.shares["waiting for data"], 3)
        headline[name] = {"waiting": waiting, "bottleneck": found.input_is_bottleneck}
    record.finish(f"slow_input_{backend}{'_quick' if options.quick else ''}", headline, details)


if __name__ == "__main__":
    main()
