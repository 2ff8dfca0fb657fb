"""A small residual network for small images and volumes: 0.49 M parameters at width 24 on colour images."""

import keras
from keras import layers

from keras_vision.models.ends import scaled
from keras_vision.models.shapes import require_pictures, require_volumes
from keras_vision.recipe import ModelSpec

# Filters of the stem and the three blocks, as multiples of the width.
MULTIPLES = (1, 2, 4, 6)
BLOCK_DROPOUT = (0.1, 0.2, 0.3)
HEAD_DROPOUT = 0.4
# Longer than plain_cnn's: with a cosine schedule the last 50 steps hardly change the weights, so the final statistics
# can be a mean over all of them.
NORM_MOMENTUM = 0.98


def small_resnet(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Stem convolution, three residual blocks that each halve the image, global average pooling, logits.

    The stem halves a volume, too: at full size its convolution would cost more than all others together.

    Args:
        spec: A `recipe.ModelSpec`; `width` is the stem's filters.
        image_shape: `(H, W, C)` or `(D, H, W, C)`, at least 16 per side.
        num_classes: Number of logits.

    Reference:
        He et al. 2016, https://arxiv.org/abs/1512.03385, the basic block with a projection shortcut.
    """
    volume = len(image_shape) == 4
    (require_volumes if volume else require_pictures)("small_resnet", image_shape, at_least=16)
    images = keras.Input(image_shape, name="images")
    # Nearly all of a mask is background, 0. An offset, which integer files round to a pixel value, would shift it.
    x = scaled(images, 1 / 255) if volume else scaled(images, 1 / 127.5, -1)
    x = _convolution(x, spec.width * MULTIPLES[0], 3, 2 if volume else 1, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for number, (multiple, rate) in enumerate(zip(MULTIPLES[1:], BLOCK_DROPOUT, strict=True), 1):
        x = _block(x, spec.width * multiple, f"block{number}")
        x = layers.Dropout(spec.dropout(rate), name=f"block{number}_dropout")(x)
    x = (layers.GlobalAveragePooling3D if volume else layers.GlobalAveragePooling2D)(name="pool")(x)
    x = layers.Dropout(spec.dropout(HEAD_DROPOUT), name="dropout")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="logits")(x), name="small_resnet")


def _block(x, filters, name):
    """Two convolutions, the first with stride 2, added to a strided 1 x 1 projection of the input."""
    shortcut = _convolution(x, filters, 1, 2, f"{name}_shortcut")
    x = _convolution(x, filters, 3, 2, f"{name}_a")
    x = layers.ReLU(name=f"{name}_a_relu")(x)
    x = _convolution(x, filters, 3, 1, f"{name}_b")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution(x, filters, kernel, stride, name):
    kind = layers.Conv3D if len(x.shape) == 5 else layers.Conv2D
    x = kind(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"{name}_norm")(x)
