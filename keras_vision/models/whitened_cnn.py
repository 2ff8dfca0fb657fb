"""A plain network that trains fast: the first layer whitens, the other convolutions start as identity maps.

2 M parameters at width 64 and ten classes.
Source: Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", https://arxiv.org/abs/2404.00498
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_vision.models.ends import scaled, with_head
from keras_vision.models.shapes import require_pictures
from keras_vision.recipe import ModelSpec

MULTIPLES = (1, 4, 4)
PATCH = 2
# Far more patches than their covariance has entries; and at least some images, however large they are.
WHITENING_PATCHES = 500_000
WHITENING_IMAGES = 50
# Limits the gain of directions with little variance; for pixels scaled to -1..1.
WHITENING_EPSILON = 5e-4
# Short: the network is trained in a thousand steps, with batches of some hundred images.
NORM_MOMENTUM = 0.6
# Initial scale of the last normalization. The maximum of each map is far from 0, and with a scale of 1 the head's first
# steps overshoot at every rate that is high enough for the convolutions; Jordan divides the logits by the same factor.
LAST_GAMMA = 1 / 9


def whitened_cnn(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Whitening convolution; three groups of convolution, pooling, convolution; global max pooling, logits.

    Args:
        spec: A `recipe.ModelSpec`; `width` is the first group's filters; the others have 4 times as many.
        image_shape: `(H, W, C)`, at least 16 x 16.
        num_classes: Number of logits.
    """
    require_pictures("whitened_cnn", image_shape, at_least=16)
    images = keras.Input(image_shape, name="images")
    x = scaled(images, 1 / 127.5, -1)
    # Each direction and its negative, so that the ReLU loses no information.
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
            _start_as_identity(layer)
    return model


def _convolution(x, filters, name):
    # torch's default: a third of the variance that preserves the signal's.
    initializer: Any = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return layers.Conv2D(
        filters, 3, padding="same", use_bias=False, kernel_initializer=initializer, name=f"{name}_conv"
    )(x)


def _normalized(x, name, gamma=1.0):
    initializer: Any = keras.initializers.Constant(gamma)
    x = layers.BatchNormalization(momentum=NORM_MOMENTUM, gamma_initializer=initializer, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _start_as_identity(convolution):
    """Makes the first filters of a convolution copy the input's channels, like torch's `dirac_`."""
    (kernel,) = convolution.get_weights()
    height, width, channels, filters = kernel.shape
    copied = range(min(channels, filters))
    kernel = np.array(kernel)
    kernel[..., copied] = 0
    kernel[height // 2, width // 2, copied, copied] = 1
    convolution.set_weights([kernel])


def whiten(model: keras.Model, images: Any) -> None:
    """Sets the first layer of a `whitened_cnn` so that its outputs on patches of the images are uncorrelated.

    Args:
        model: A `whitened_cnn`, changed in place.
        images: uint8 array or rows on disk, shape `(N, H, W, C)`; some hundred are used, evenly spread.
    """
    count = max(WHITENING_IMAGES, WHITENING_PATCHES // (images.shape[1] * images.shape[2]))
    some = images[:: -(-len(images) // count)]
    pixels: Any = ops.convert_to_numpy(model.get_layer("rescaling")(some.astype(np.float32)))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (PATCH, PATCH), axis=(1, 2))
    # (N, H, W, C, patch, patch) to rows in a kernel's order: patch, patch, C.
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, PATCH * PATCH * pixels.shape[-1])
    variances, directions = np.linalg.eigh(np.cov(patches.astype(np.float64), rowvar=False))
    kernel = directions / np.sqrt(variances + WHITENING_EPSILON)
    kernel = kernel.reshape(PATCH, PATCH, pixels.shape[-1], -1)
    model.get_layer("whitening").set_weights([np.concatenate([kernel, -kernel], axis=-1)])
