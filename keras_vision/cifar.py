"""Small colour images: CIFAR-10, ten classes of 32 x 32 pixels.

Run:     python -m keras_vision.cifar
         python -m keras_vision.cifar --recipe resnet18
         python -m keras_vision.cifar --recipe fast --precision mixed_bfloat16
         python -m keras_vision.cifar --recipe finetune --init-from runs/imagenette-resnet18      compare with scratch
Data:    --data cifar10 reads cifar10.npz from the folder KERAS_VISION_DATA, else it downloads the original once;
         --data FILE.npz reads other files of this format
Source:  Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf
"""

import dataclasses
import sys
from collections.abc import Sequence

from keras_vision import cli
from keras_vision.recipe import AugmentationSpec, DataSpec, ModelSpec, Recipe, TrainingSpec

DATA = DataSpec(data="cifar10", size=32)

AUGMENTATION = AugmentationSpec(
    horizontal_flip=True,
    rotate90=True,
    rotation_range=10.0,
    # 16 of 32 pixels: DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552, section 4.1.
    cutout=0.5,
)
REGULARIZATION = AugmentationSpec(
    horizontal_flip=True,
    rotation_range=15.0,
    # Colour jitter.
    brightness_range=(0.8, 1.2),
    contrast=0.2,
    saturation=0.2,
)

# Shifts of up to two pixels, and a flip in every other epoch: Jordan 2024, https://arxiv.org/abs/2404.00498.
LIGHT_AUGMENTATION = AugmentationSpec(horizontal_flip=True, alternate_flips=True, random_crop=2, fill_mode="reflect")

RECIPES = {
    "custom": Recipe(
        name="custom",
        data=DATA,
        model=ModelSpec(architecture="cifar_resnet", width=32),
        augmentation=AUGMENTATION,
        training=TrainingSpec(epochs=20),
    ),
    "resnet18": Recipe(
        name="resnet18",
        data=DATA,
        model=ModelSpec(architecture="resnet18", width=64),
        augment=True,
        augmentation=AUGMENTATION,
        # He et al. 2016, section 4.2, for batches of 128: rate 0.1, momentum 0.9, weight decay 0.0001 as an L2 term.
        # Half the batch size takes half the rate; decoupled decay takes 10 times the value (1 / (1 - momentum)).
        training=TrainingSpec(
            epochs=60, batch_size=64, optimizer="sgd", momentum=0.9, learning_rate=0.05, weight_decay=0.001
        ),
    ),
    "regularized": Recipe(
        name="regularized",
        data=DATA,
        model=ModelSpec(architecture="resnet18", width=64, head_dropout=0.5),
        augment=True,
        augmentation=REGULARIZATION,
        training=TrainingSpec(epochs=60),
    ),
    "fast": Recipe(
        name="fast",
        data=DATA,
        model=ModelSpec(architecture="whitened_cnn", width=64),
        augment=True,
        augmentation=LIGHT_AUGMENTATION,
        training=TrainingSpec(
            # About ten minutes on two cores.
            epochs=12,
            # Rate and decay were chosen on validation images; batches of 256 did better than 512.
            batch_size=256,
            optimizer="sgd",
            momentum=0.85,
            nesterov=True,
            learning_rate=0.375,
            weight_decay=0.009,
            schedule="linear",
            warmup_epochs=2.4,
            patience=0,
            label_smoothing=0.2,
            calibrate=True,
        ),
    ),
}


SCRATCH = Recipe(
    name="scratch",
    data=DATA,
    # The network of `imagenette --recipe resnet18`, at its image size.
    model=ModelSpec(architecture="resnet18", width=64, stem="imagenet", input_size=64),
    augmentation=LIGHT_AUGMENTATION,
    # The rate ends at 0 for any number of epochs; with a constant rate the two recipes are equal after two epochs.
    training=TrainingSpec(epochs=12, schedule="cosine", patience=0),
)
FROM_IMAGENETTE = dataclasses.replace(SCRATCH.model, init_from="runs/imagenette-resnet18")
RECIPES |= {"scratch": SCRATCH, "finetune": dataclasses.replace(SCRATCH, name="finetune", model=FROM_IMAGENETTE)}


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run_track("cifar", RECIPES, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
