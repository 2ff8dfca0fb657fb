"""Rib fractures in 3D: FractureMNIST3D, three classes of 28 x 28 x 28 CT cubes; every other MedMNIST 3D set as well.

Run:     python -m keras_vision.fracture3d
         python -m keras_vision.fracture3d --data adrenalmnist3d --recipe best --qat
Files:   .tflite files hold the network in 2D operators (quantization.lower_3d), the integer ones too
Source:  Yang et al. 2023, https://doi.org/10.1038/s41597-022-01721-8
"""

import sys

from keras_vision import cli
from keras_vision.recipe import DataSpec, ModelSpec, Recipe, TrainingSpec

DATA = DataSpec(data="fracturemnist3d")

RECIPES = {
    "baseline": Recipe(
        name="baseline",
        data=DATA,
        model=ModelSpec(architecture="plain_cnn_3d"),
        training=TrainingSpec(epochs=60, batch_size=32, learning_rate=0.00022, class_weight="balanced"),
    ),
    "best": Recipe(
        name="best",
        data=DATA,
        model=ModelSpec(architecture="small_resnet", width=24),
        training=TrainingSpec(
            epochs=60,
            batch_size=32,
            optimizer="adamw",
            learning_rate=0.002,
            weight_decay=0.1,
            schedule="cosine",
            warmup_epochs=2,
            patience=0,
            class_weight="0.5",
        ),
    ),
}


def main(argv=None):
    return cli.run_track("fracture3d", RECIPES, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
