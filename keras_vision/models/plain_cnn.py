"""The reference skin-lesion notebook's network: four convolution blocks, three dense layers, 0.49 M parameters."""

import keras
from keras import layers

from keras_vision.models.ends import scaled
from keras_vision.models.shapes import require_pictures
from keras_vision.recipe import ModelSpec

# The reference notebook has three rates for four blocks; the fourth block repeats the third's.
BLOCK_DROPOUT = (0.2, 0.3, 0.4, 0.4)
# torch's default. Keras's 0.99 is still near its initial values after 3 epochs of 66 steps (validation accuracy 0.04,
# training accuracy 0.72), and 0.98 after 15 epochs of 8 steps: early stopping then keeps the untrained network.
NORM_MOMENTUM = 0.9


def plain_cnn(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Conv2D -> BatchNormalization -> ReLU -> MaxPooling -> Dropout, four times; then Dense 256, 128, classes.

    ReLU follows the normalization, so that the normalization folds into the convolution when the network is quantized.

    Args:
        spec: A `recipe.ModelSpec`; `width` is the first block's filters, doubled in each block.
        image_shape: `(H, W, C)`, at least 16 x 16.
        num_classes: Number of logits.
    """
    require_pictures("plain_cnn", image_shape, at_least=16)
    images = keras.Input(image_shape, name="images")
    x = scaled(images, 1 / 255)
    for block, rate in enumerate(BLOCK_DROPOUT):
        name = f"block{block + 1}"
        x = layers.Conv2D(spec.width * 2**block, 3, padding="same", name=f"{name}_conv")(x)
        x = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.MaxPooling2D(name=f"{name}_pool")(x)
        x = layers.Dropout(spec.dropout(rate), name=f"{name}_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    for units, rate in ((256, 0.4), (128, 0.3)):
        x = layers.Dense(units, activation="relu", name=f"dense{units}")(x)
        x = layers.Dropout(spec.dropout(rate), name=f"dense{units}_dropout")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="logits")(x), name="plain_cnn")
