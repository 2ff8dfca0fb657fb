"""EfficientNet-Lite0, 1 and 2: EfficientNets made for integers, with ReLU6 and without squeeze-and-excitation.

Layers have the names of the package efficientnet-lite-pytorch, such as `block3_expand_conv` for
`_blocks.3._expand_conv`, except the last: `logits` for `_fc`.
"""

import math
import re
from typing import Any

import keras
from keras import layers

from keras_vision.models.ends import resized, resized_shape, scaled, with_head
from keras_vision.models.shapes import require_pictures
from keras_vision.models.torch_names import head_names, weight_names
from keras_vision.recipe import ModelSpec

# Blocks, kernel, stride of the first, expansion and filters of each stage: Tan and Le 2019,
# https://arxiv.org/abs/1905.11946, table 1, with the expansions of the code that it links.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The Lite networks do not scale these, nor the number of blocks of the first and the last stage. This, the scaling of
# pixels and the normalization are those of
# https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/efficientnet_lite_builder.py.
STEM_FILTERS, LAST_FILTERS = 32, 1280
PIXEL_MEAN, PIXEL_SCALE = 127, 128
NORM_EPSILON, NORM_MOMENTUM = 1e-3, 0.99


def efficientnet_lite0(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """EfficientNet-Lite0: 16 blocks, 3.4 M parameters without its head; trained by its authors at 224 pixels.

    The authors' training also drops whole blocks at random (stochastic depth); this network does not.

    Args:
        spec: A `recipe.ModelSpec`; `input_size` and the head's fields are read.
        image_shape: `(H, W, C)`, at least 32 x 32.
        num_classes: Number of logits.
    """
    return _lite("efficientnet_lite0", 1.0, 1.0, spec, image_shape, num_classes)


def efficientnet_lite1(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """EfficientNet-Lite1: Lite0 with 21 blocks, 4.2 M parameters without its head; its authors' size is 240 pixels.

    Args:
        spec: A `recipe.ModelSpec`; `input_size` and the head's fields are read.
        image_shape: `(H, W, C)`, at least 32 x 32.
        num_classes: Number of logits.
    """
    return _lite("efficientnet_lite1", 1.0, 1.1, spec, image_shape, num_classes)


def efficientnet_lite2(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """EfficientNet-Lite2: Lite1 with more filters, 4.9 M parameters without its head; its authors' size is 260 pixels.

    Args:
        spec: A `recipe.ModelSpec`; `input_size` and the head's fields are read.
        image_shape: `(H, W, C)`, at least 32 x 32.
        num_classes: Number of logits.
    """
    return _lite("efficientnet_lite2", 1.1, 1.2, spec, image_shape, num_classes)


def _lite(name, width, depth, spec, image_shape, num_classes):
    """Stem, stages of blocks, a 1 x 1 convolution, global average pooling, head.

    Args:
        width: Factor on the filters of the stages.
        depth: Factor on the number of blocks of the stages.
    """
    require_pictures(name, resized_shape(spec, image_shape), at_least=32)
    images = keras.Input(image_shape, name="images")
    x = resized(scaled(images, 1 / PIXEL_SCALE, -PIXEL_MEAN / PIXEL_SCALE), spec)
    x = _relu6(_convolution(x, STEM_FILTERS, 3, 2, "conv_stem", "bn0"), "relu0")
    number = 0
    for blocks, kernel, stride, expansion, filters in STAGES:
        for repeat in range(blocks if blocks == 1 else math.ceil(depth * blocks)):
            x = _block(x, kernel, 1 if repeat else stride, expansion, _rounded(width * filters), f"block{number}")
            number += 1
    x = _relu6(_convolution(x, LAST_FILTERS, 1, 1, "conv_head", "bn1"), "relu1")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    return with_head(name, images, x, spec, num_classes)


def _rounded(filters):
    """The nearest multiple of 8 that is not more than a tenth smaller."""
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * filters else nearest + 8


def _block(x, kernel, stride, expansion, filters, name):
    """1 x 1 convolution to more filters, depthwise convolution, 1 x 1 convolution to few; added if the shape is equal.

    Reference:
        Sandler et al. 2018, https://arxiv.org/abs/1801.04381, figure 3.
    """
    inputs = x
    if expansion > 1:
        x = _convolution(x, expansion * x.shape[-1], 1, 1, f"{name}_expand_conv", f"{name}_bn0")
        x = _relu6(x, f"{name}_relu0")
    x = layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{name}_depthwise_conv",
    )(x)
    x = _relu6(_normalization(x, f"{name}_bn1"), f"{name}_relu1")
    x = _convolution(x, filters, 1, 1, f"{name}_project_conv", f"{name}_bn2")
    return layers.Add(name=f"{name}_add")([x, inputs]) if x.shape == inputs.shape else x


def _convolution(x, filters, kernel, stride, name, norm):
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=name,
    )(x)
    return _normalization(x, norm)


def _normalization(x, name):
    return layers.BatchNormalization(momentum=NORM_MOMENTUM, epsilon=NORM_EPSILON, name=name)(x)


def _relu6(x, name):
    return layers.ReLU(6.0, name=name)(x)


def _initializer() -> Any:  # Keras annotates its layers' arguments as str.
    """The reference's: a standard deviation of sqrt(2 / fan_out)."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def package_names(model: keras.Model) -> dict[str, tuple[str, str]]:
    """The layer and variable of each weight in the state dicts of efficientnet-lite-pytorch.

    Args:
        model: From `efficientnet_lite0`, `efficientnet_lite1` or `efficientnet_lite2`.

    Returns:
        `{the package's name: (layer, variable)}`, such as `{"_conv_stem.weight": ("conv_stem", "kernel")}`.
    """
    heads = head_names(model, "_fc")
    return weight_names(model, lambda layer: heads.get(layer) or _module(layer))


def _module(layer):
    """`_blocks.3._expand_conv` for `block3_expand_conv`, `_conv_stem` for `conv_stem`."""
    return re.sub(r"^_block(\d+)_", r"_blocks.\1._", f"_{layer}")
