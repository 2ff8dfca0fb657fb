"""Rib fractures in 3D: FractureMNIST3D, three classes of 28 x 28 x 28 CT cubes; every other MedMNIST 3D set as well.

Run:     python -m keras_vision.fracture3d
         python -m keras_vision.fracture3d --data adrenalmnist3d --recipe best --qat
Files:   .tflite files hold the network in 2D operators (quantization.lower_3d), the integer ones too
Source:  Yang et al. 2023, https://doi.org/10.1038/s41597-022-01721-8
"""

import dataclasses
import sys
from collections.abc import Sequence

from keras_vision import cli
from keras_vision.recipe import AugmentationSpec, DataSpec, ExplanationSpec, ModelSpec, Recipe, TrainingSpec

DATA = DataSpec(data="fracturemnist3d")
# A volume takes as long as 28 pictures.
EXPLANATION = ExplanationSpec(faithfulness_images=12)

# Ribs run in every direction through these cubes, and left and right ones break alike: each mirror image and rotation
# of a fracture keeps its kind.
AUGMENTATION = AugmentationSpec(
    rotation_range=15.0,
    zoom_range=0.1,
    width_shift_range=0.08,
    height_shift_range=0.08,
    depth_shift_range=0.08,
    horizontal_flip=True,
    vertical_flip=True,
    depth_flip=True,
    rotate_cube=True,
)

# Nothing that interpolates: on AdrenalMNIST3D small rotations and shifts earned nothing beside the 48 symmetries of the
# cube, which keep every voxel as it was.
SYMMETRIES = AugmentationSpec(horizontal_flip=True, vertical_flip=True, depth_flip=True, rotate_cube=True)

RECIPES = {
    "baseline": Recipe(
        name="baseline",
        data=DATA,
        explanation=EXPLANATION,
        augmentation=AUGMENTATION,
        model=ModelSpec(architecture="plain_cnn_3d"),
        training=TrainingSpec(epochs=60, batch_size=32, learning_rate=0.00022, class_weight="balanced"),
    ),
    "best": Recipe(
        name="best",
        data=DATA,
        # Its last maps are 2 x 2 x 2 and those before show the padding at the rims; these are 7 x 7 x 7.
        explanation=dataclasses.replace(EXPLANATION, explained_layer="block1_relu"),
        model=ModelSpec(architecture="small_resnet", width=20, dropout_scale=0.3),
        augment=True,
        augmentation=SYMMETRIES,
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


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run_track("fracture3d", RECIPES, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
