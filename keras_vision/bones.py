"""Bone fractures: X-rays, fractured or not, with networks pretrained on ImageNet.

Run:     python -m keras_vision.bones --data FOLDER
         python -m keras_vision.bones --recipe pretrained --data FOLDER --drop-leaks
         python -m keras_vision.bones --recipe partial --data FOLDER --drop-leaks
         python -m keras_vision.bones --data FOLDER --weights none        without a download
Data:    class folders, with or without train/, val/ and test/, such as FracAtlas, CC BY 4.0,
         https://doi.org/10.6084/m9.figshare.22363012
Source:  He et al. 2016, https://arxiv.org/abs/1512.03385; Abedeen et al. 2023,
         https://doi.org/10.1038/s41597-023-02432-4
The reference notebook has one sigmoid output with binary cross-entropy. Two logits with softmax and cross-entropy are
the same function of their difference, and every tool for classifiers accepts the files.
"""

import dataclasses
import sys
from collections.abc import Sequence

from keras_vision import cli, train
from keras_vision.recipe import AugmentationSpec, DataSpec, ModelSpec, Recipe, TrainingSpec

DATA = DataSpec(data="fracatlas", size=224, color="gray", resize="pad")

# Left and right bones break alike, and X-rays are taken at varying angles.
AUGMENTATION = AugmentationSpec(
    horizontal_flip=True, rotation_range=10.0, random_resized_crop=0.7, fill_mode="constant"
)

FROZEN = Recipe(
    name="frozen",
    data=DATA,
    model=ModelSpec(
        architecture="resnet18",
        width=64,
        stem="imagenet",
        weights="imagenet",
        unfreeze="none",
        head_units=256,
        head_dropout=0.5,
    ),
    augment=True,
    augmentation=AUGMENTATION,
    training=TrainingSpec(epochs=20, batch_size=32, schedule="step", step_epochs=5, cut_factor=0.1, patience=5),
)

RECIPES = {
    "frozen": FROZEN,
    "partial": dataclasses.replace(
        FROZEN,
        name="partial",
        model=dataclasses.replace(FROZEN.model, unfreeze="layer4", head_units=0, head_dropout=0.0),
        training=TrainingSpec(epochs=20, batch_size=32, learning_rate=1e-4, patience=5),
    ),
    # EfficientNet-Lite0, every layer of it.
    "pretrained": dataclasses.replace(
        train.FINETUNE,
        name="pretrained",
        data=DATA,
        augmentation=AUGMENTATION,
        training=dataclasses.replace(train.FINETUNE.training, train_scale=1.0),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run_track("bones", RECIPES, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
