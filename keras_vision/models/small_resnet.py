"""A small residual network for small pictures: 0.49 M parameters at width 24, three colours and seven classes."""

import keras
from keras import layers

from keras_vision.models.shapes import require_pictures

# Filters of the stem and the three blocks, as multiples of the width.
MULTIPLES = (1, 2, 4, 6)
BLOCK_DROPOUT = (0.1, 0.2, 0.3)
HEAD_DROPOUT = 0.4
# Longer than plain_cnn's: under a cosine schedule the last 50 steps hardly move the weights, so the statistics that the
# finished network keeps may as well be a mean over all of them.
NORM_MOMENTUM = 0.98


def small_resnet(spec, image_shape, num_classes):
    """Stem convolution, three residual blocks that each halve the picture, global average pooling, logits.

    Args:
        spec: A `recipe.ModelSpec`; `width` is the stem's filters.
        image_shape: `(H, W, C)`, at least 16 x 16.
        num_classes: Number of logits.

    Reference:
        He et al. 2016, https://arxiv.org/abs/1512.03385, the basic block with a projecting shortcut.
    """
    require_pictures("small_resnet", image_shape, at_least=16)
    images = keras.Input(image_shape, name="images")
    x = layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(images)
    x = _convolution(x, spec.width * MULTIPLES[0], 3, 1, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for number, (multiple, rate) in enumerate(zip(MULTIPLES[1:], BLOCK_DROPOUT, strict=True), 1):
        x = _block(x, spec.width * multiple, f"block{number}")
        x = layers.Dropout(min(0.9, rate * spec.dropout_scale), name=f"block{number}_dropout")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(min(0.9, HEAD_DROPOUT * spec.dropout_scale), name="dropout")(x)
    return keras.Model(images, layers.Dense(num_classes, name="logits")(x), name="small_resnet")


def _block(x, filters, name):
    """Two convolutions, the first with stride 2, added to a strided 1 x 1 projection of the input."""
    shortcut = _convolution(x, filters, 1, 2, f"{name}_shortcut")
    x = _convolution(x, filters, 3, 2, f"{name}_a")
    x = layers.ReLU(name=f"{name}_a_relu")(x)
    x = _convolution(x, filters, 3, 1, f"{name}_b")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution(x, filters, kernel, stride, name):
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
