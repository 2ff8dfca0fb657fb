"""Plant species from folders of photos: a network that overfits, one that does not, and one with ImageNet weights.

Run:     python -m keras_vision.plants --data FOLDER
         python -m keras_vision.plants --recipe robust --data FOLDER
         python -m keras_vision.plants --recipe pretrained --data FOLDER
         python -m keras_vision.compare runs/plants runs/plants-robust
Data:    class folders, with or without train/, val/ and test/, such as TensorFlow's flower_photos,
         https://www.tensorflow.org/datasets/catalog/tf_flowers
"""

import dataclasses
import sys
from collections.abc import Sequence

from keras_vision import cli, train
from keras_vision.recipe import AugmentationSpec, DataSpec, ModelSpec, Recipe, TrainingSpec

DATA = DataSpec(data="flower_photos", size=64)
# The reference notebook's "stronger" augmentation: a flower keeps its class at any distance, in any light and flipped,
# but is seldom upside down.
STRONG_AUGMENTATION = AugmentationSpec(
    random_resized_crop=0.3,
    horizontal_flip=True,
    rotation_range=15.0,
    brightness_range=(0.7, 1.3),
    contrast=0.3,
    saturation=0.3,
    fill_mode="reflect",
)

RECIPES = {
    "baseline": Recipe(
        name="baseline",
        data=DATA,
        model=ModelSpec(architecture="basic_cnn", width=32),
        # The reference notebook's first augmentation, used with --augment.
        augmentation=AugmentationSpec(random_resized_crop=0.5, horizontal_flip=True),
        training=TrainingSpec(epochs=30, patience=0, schedule="constant"),
    ),
    "robust": Recipe(
        name="robust",
        data=DATA,
        model=ModelSpec(architecture="small_resnet", width=24),
        augment=True,
        augmentation=STRONG_AUGMENTATION,
        training=TrainingSpec(
            epochs=40,
            optimizer="adamw",
            learning_rate=0.002,
            weight_decay=0.1,
            schedule="cosine",
            warmup_epochs=2,
            patience=0,
            true_statistics=False,  # Its figures were measured so.
        ),
    ),
    "pretrained": dataclasses.replace(train.FINETUNE, name="pretrained", data=train.DATA),
}


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run_track("plants", RECIPES, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
