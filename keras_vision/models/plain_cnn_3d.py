"""The reference rib-fracture notebook's network: three 3D convolution blocks, three dense layers, 0.7 M parameters."""

import keras
from keras import layers

from keras_vision.models.ends import scaled
from keras_vision.models.plain_cnn import NORM_MOMENTUM
from keras_vision.models.shapes import require_volumes
from keras_vision.recipe import ModelSpec

BLOCKS = 3
HEAD_DROPOUT = 0.5


def plain_cnn_3d(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Conv3D -> BatchNormalization -> ReLU -> MaxPooling3D, three times; then Dense 128, 64, classes.

    Args:
        spec: A `recipe.ModelSpec`; `width` is the first block's filters, doubled in each block.
        image_shape: `(D, H, W, C)`, at least 8 x 8 x 8.
        num_classes: Number of logits.
    """
    require_volumes("plain_cnn_3d", image_shape, at_least=8)
    volumes = keras.Input(image_shape, name="images")
    x = scaled(volumes, 1 / 255)
    for block in range(BLOCKS):
        name = f"block{block + 1}"
        x = layers.Conv3D(spec.width * 2**block, 3, padding="same", name=f"{name}_conv")(x)
        x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.MaxPooling3D(name=f"{name}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    for units in (128, 64):
        x = layers.Dense(units, activation="relu", name=f"dense{units}")(x)
        x = layers.Dropout(spec.dropout(HEAD_DROPOUT), name=f"dense{units}_dropout")(x)
    return keras.Model(volumes, layers.Dense(num_classes, dtype="float32", name="logits")(x), name="plain_cnn_3d")
