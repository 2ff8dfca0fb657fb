"""Features of a frozen backbone: computed once, so that its head learns in seconds.

With nothing to learn below the head, every epoch would compute the same features again, or, with augmentation, those of
other copies of the same images. A head sees little of that difference.
"""

import dataclasses
import math
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_vision import data, models, training
from keras_vision.pipeline.progress import Progress
from keras_vision.pipeline.tables import counted, duration
from keras_vision.recipe import Recipe, override

# Images at once, and values of images at once: larger batches of large images need memory that takes longer to get than
# to fill. EfficientNet-Lite0 at 160 pixels takes 85 ms an image in batches of 256 on torch, 29 ms in batches of 27.
PREDICT_BATCH, PREDICT_VALUES = 256, 2**21
REPORT_SECONDS = 15.0
FILE = "features-{}.npy"


def predict_batch(image_shape: tuple[int, ...]) -> int:
    """How many images a network is given at once where nothing is learned."""
    return max(1, min(PREDICT_BATCH, PREDICT_VALUES // math.prod(image_shape)))


def are_enough(recipe: Recipe) -> bool:
    """Whether the whole training of a recipe can be done on features that are computed once."""
    fixed = recipe.training.feature_copies > 0 and not recipe.augmentation.mixup  # Which mixes labels, too.
    return recipe.model.unfreeze == "none" and (not recipe.augment or fixed)


def fit_head(
    recipe: Recipe,
    splits: data.Splits,
    model: keras.Model,
    progress: Progress | None,
    *,
    epochs: int,
    rate: float,
    log_dir: Path | None = None,
) -> training.History:
    """Trains only the head of a network, in place.

    Args:
        recipe: A `Recipe`; of its training everything but the epochs and the rate is read.
        splits: The data.
        model: From `models.build`.
        progress: Of the run; None for one that cannot be resumed.
        epochs: Passes over the training images.
        rate: Initial learning rate.
        log_dir: TensorBoard's folder.
    """
    backbone, head = models.backbone_and_head(model)
    started = time.perf_counter()
    copies = max(1, recipe.training.feature_copies) if recipe.augment else 1
    place = None if progress is None else progress.folder
    count = counted(len(splits.train) + len(splits.val), "image")
    augmented = f", those of train in {copies:,} augmented copies" if copies > 1 else ""
    print(f"Features of {count}{augmented}, computed once...", flush=True)
    with training.native_operations(backbone):
        train, val = (_features(recipe, splits, backbone, name, copies, place) for name in ("train", "val"))
    print(f"{train.shape[-1]:,} features an image, {duration(time.perf_counter() - started)}.", flush=True)
    spec = override(recipe, epochs=epochs, learning_rate=rate).training
    batches = _Copies(train, splits.train.labels, splits.num_classes, spec.batch_size, recipe.seed)
    history = training.fit(
        head,
        batches,
        data.Batches(data.Split(val[0], splits.val.labels), splits.num_classes, PREDICT_BATCH),
        spec,
        log_dir=log_dir,
        checkpoints=progress and progress.checkpoints("training of the head"),
    )
    for layer, trained in zip(models.head_layers(model), head.layers[1:], strict=True):
        layer.set_weights(trained.get_weights())
    return history


class _Copies(data.Batches):
    """Batches of features, in every epoch of the next augmented copy."""

    def __init__(self, copies: np.ndarray, labels: np.ndarray, num_classes: int, batch_size: int, seed: int):
        self.copies, self.labels = copies, labels
        super().__init__(data.Split(copies[0], labels), num_classes, batch_size, shuffle=True, seed=seed)

    def start_epoch(self, epoch: int) -> None:
        self.split = data.Split(self.copies[epoch % len(self.copies)], self.labels)
        super().start_epoch(epoch)


def _features(recipe, splits, backbone, name, copies, folder: Path | None) -> Any:
    """Features of a split, shape `(copies, N, F)`; on disk where a run has a folder, from an earlier session or now."""
    split = splits.named()[name]
    file = None if folder is None else folder / FILE.format(name)
    if file is not None and file.exists():
        return np.load(file, mmap_mode="r")
    augmented = recipe.augment and name == "train"
    # Copies of one image each: mixtures of two have mixed labels.
    augmentation = dataclasses.replace(recipe.augmentation, mixup=0.0) if augmented else None
    copies = copies if augmentation else 1
    shape = (copies, len(split), backbone.output_shape[-1])
    unfinished = None if file is None else file.with_suffix(".writing")
    if unfinished is None:
        found: Any = np.zeros(shape, np.float32)
    else:
        found = np.lib.format.open_memmap(unfinished, "w+", np.float32, shape)
    size = predict_batch(splits.image_shape)
    batches = data.Batches(split, splits.num_classes, size, augmentation=augmentation, seed=recipe.seed)
    told = time.perf_counter()
    for copy in range(copies):
        batches.start_epoch(copy)
        for number in range(len(batches)):
            start = number * size
            found[copy, start : start + size] = backbone.predict_on_batch(batches[number][0])
            if time.perf_counter() - told > REPORT_SECONDS:
                told = time.perf_counter()
                done = copy * len(split) + min(len(split), start + size)
                print(f"{done:,} of {copies * len(split):,}", flush=True)
    if unfinished is None or file is None:
        return found
    found.flush()
    os.replace(unfinished, file)
    return np.load(file, mmap_mode="r")
