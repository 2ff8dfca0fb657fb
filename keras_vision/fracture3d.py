"""Rib fractures in 3D: FractureMNIST3D, three classes of 28 x 28 x 28 CT volumes; also other MedMNIST 3D sets.

Run:     python -m keras_vision.fracture3d
         python -m keras_vision.fracture3d --data adrenalmnist3d --recipe best --qat
Files:   all .tflite files have only 2D operators (quantization.lower_3d)
Source:  Yang et al. 2023, https://doi.org/10.1038/s41597-022-01721-8
"""

import dataclasses
import sys
from collections.abc import Sequence

from keras_vision import cli
from keras_vision.recipe import AugmentationSpec, DataSpec, ExplanationSpec, ModelSpec, Recipe, TrainingSpec

DATA = DataSpec(data="fracturemnist3d")
# A volume takes as long as 28 images.
EXPLANATION = ExplanationSpec(faithfulness_images=12)

# Ribs run in every direction in these volumes, and break alike left and right: flips and rotations keep the class.
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

# No interpolation: on AdrenalMNIST3D small rotations and shifts added nothing to the 48 symmetries of the cube, which
# keep voxel values.
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
        # 7 x 7 x 7 maps; the last ones are 2 x 2 x 2, and those before show the padding at the borders.
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
            true_statistics=False,  # Its figures were measured so.
        ),
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run_track("fracture3d", RECIPES, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
