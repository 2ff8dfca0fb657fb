"""The first network of the reference Imagenette and plant notebooks: three convolutions and two dense layers.

Dropout is its only regularization, so it overfits; the second network of each notebook addresses that.
"""

import keras
from keras import layers

from keras_vision.models.ends import scaled
from keras_vision.models.shapes import require_pictures
from keras_vision.recipe import ModelSpec

MULTIPLES = (1, 2, 4)
DENSE_UNITS, DENSE_DROPOUT = 128, 0.3


def basic_cnn(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Conv2D -> ReLU -> MaxPooling, three times; Dense 128 with dropout 0.3; logits.

    Args:
        spec: A `recipe.ModelSpec`; `width` is the first convolution's filters; the others have 2 and 4 times as many.
        image_shape: `(H, W, C)`, at least 16 x 16.
        num_classes: Number of logits.
    """
    require_pictures("basic_cnn", image_shape, at_least=16)
    images = keras.Input(image_shape, name="images")
    x = scaled(images, 1 / 255)
    for number, multiple in enumerate(MULTIPLES, 1):
        x = layers.Conv2D(spec.width * multiple, 3, padding="same", name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(DENSE_UNITS, activation="relu", name="dense")(x)
    x = layers.Dropout(spec.dropout(DENSE_DROPOUT), name="dropout")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="logits")(x), name="basic_cnn")
