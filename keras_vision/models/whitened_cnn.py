"""A plain network that is quick to train: its first layer whitens, its convolutions start by passing on what they get.

2 M parameters at width 64 with ten classes.
Source: Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", https://arxiv.org/abs/2404.00498
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_vision.models.ends import scaled, with_head
from keras_vision.models.shapes import require_pictures

MULTIPLES = (1, 4, 4)
PATCH = 2
# Far more patches than their covariance has entries, from some images at least however large they are.
WHITENING_PATCHES = 500_000
WHITENING_IMAGES = 50
# Keeps directions that hardly occur from being blown up; of pixels scaled to -1..1.
WHITENING_EPSILON = 5e-4
# Of statistics over batches of some hundred images: the network is trained in a thousand steps.
NORM_MOMENTUM = 0.6
# What the last normalization multiplies by at first. The largest of each map is far from 0, and with 1 the first steps
# of the head overshoot at every rate that is high enough for the convolutions; Jordan divides the logits by as much.
LAST_GAMMA = 1 / 9


def whitened_cnn(spec, image_shape, num_classes):
    """Whitening convolution; three groups of convolution, pooling, convolution; global maximum, logits.

    Args:
        spec: A `recipe.ModelSpec`; `width` is the first group's filters, the others have four times as many.
        image_shape: `(H, W, C)`, at least 16 a side.
        num_classes: Number of logits.
    """
    require_pictures("whitened_cnn", image_shape, at_least=16)
    images = keras.Input(image_shape, name="images")
    x = scaled(images, 1 / 127.5, -1)
    # Each direction and its opposite, so that the ReLU loses nothing.
    filters = 2 * PATCH * PATCH * image_shape[-1]
    x = layers.Conv2D(filters, PATCH, use_bias=False, trainable=False, name="whitening")(x)
    x = layers.ReLU(name="whitening_relu")(x)
    for number, multiple in enumerate(MULTIPLES, 1):
        x = _convolution(x, spec.width * multiple, f"group{number}_a")
        x = layers.MaxPooling2D(name=f"group{number}_pool")(x)
        x = _normalized(x, f"group{number}_a")
        x = _convolution(x, spec.width * multiple, f"group{number}_b")
        x = _normalized(x, f"group{number}_b", gamma=LAST_GAMMA if number == len(MULTIPLES) else 1.0)
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    model = with_head("whitened_cnn", images, x, spec, num_classes)
    for layer in model.layers:
        if layer.name.endswith("_conv"):
            _pass_on(layer)
    return model


def _convolution(x, filters, name):
    # A third of the variance that keeps it is torch's default.
    start: Any = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=start, name=f"{name}_conv")(x)


def _normalized(x, name, gamma=1.0):
    start: Any = keras.initializers.Constant(gamma)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, gamma_initializer=start, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _pass_on(convolution):
    """Makes the first filters of a convolution give each channel of its input unchanged; torch calls that `dirac_`."""
    (kernel,) = convolution.get_weights()
    height, width, channels, filters = kernel.shape
    passed = range(min(channels, filters))
    kernel = np.array(kernel)
    kernel[..., passed] = 0
    kernel[height // 2, width // 2, passed, passed] = 1
    convolution.set_weights([kernel])


def whiten(model, images):
    """Sets the first layer of a `whitened_cnn` so that its outputs on these images' patches are uncorrelated.

    Args:
        model: A `whitened_cnn`.
        images: uint8 array, shape `(N, H, W, C)`; some hundred of them are used, evenly spread.
    """
    count = max(WHITENING_IMAGES, WHITENING_PATCHES // (images.shape[1] * images.shape[2]))
    some = images[:: -(-len(images) // count)]
    pixels: Any = ops.convert_to_numpy(model.get_layer("rescaling")(some.astype(np.float32)))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(1, 2))
    # From (N, H, W, C, patch, patch) to rows in the order of a kernel's entries: patch, patch, C.
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, PATCH * PATCH * pixels.shape[-1])
    variances, directions = np.linalg.eigh(np.cov(patches.astype(np.float64), rowvar=False))
    kernel = directions / np.sqrt(variances + WHITENING_EPSILON)
    kernel = kernel.reshape(PATCH, PATCH, pixels.shape[-1], -1)
    model.get_layer("whitening").set_weights([np.concatenate([kernel, -kernel], axis=-1)])
