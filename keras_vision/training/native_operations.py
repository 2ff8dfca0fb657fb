"""Backend-native replacements for slow Keras layers, used in training and for the predictions of a run.

- Normalization: Keras computes mean, variance and normalized values one after the other, each with a pass over memory
  on TensorFlow and torch. Both have one fused operation; JAX's compiler fuses them by itself.
- Convolution and pooling on torch: Keras copies the input to put channels first in memory, and the output of
  convolutions to put them last again. torch needs no copies. A training step of EfficientNet-Lite0 at 160 pixels takes
  20 ms an image instead of 29, a prediction 10 instead of 20 (two cores; `benchmarks/training.py` has others).
- Strided 1 x 1 convolutions on TensorFlow get an input without the skipped pixels, because the oneDNN bug of
  `torch_state.sound_gradients` can end the process there, too.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers, ops

from keras_vision.training import torch_state


@contextlib.contextmanager
def native_operations(model: keras.Model, *, enabled: bool = True) -> Iterator[None]:
    """Replaces methods of a network's layers by the backend's own operations until the block ends.

    Outputs, gradients and moving statistics equal Keras's up to rounding. The layers stay Keras layers, so a saved
    model does not depend on this. Functions compiled inside the block keep the operations. On torch, a kernel with
    wrong gradients is avoided, see `torch_state.sound_gradients`.

    Args:
        model: A flat, built `keras.Model`, on any backend.
        enabled: Whether to use them; False only avoids oneDNN's faulty kernels.
    """
    replacements = [(vars(layer), *pair) for layer in model.layers if (pair := _replacement(layer, enabled))]
    for attributes, method, operation in replacements:
        attributes[method] = operation
    try:
        with torch_state.sound_gradients(model):
            yield
    finally:
        for attributes, method, _ in replacements:
            del attributes[method]


def _replacement(layer, enabled):
    """Name of a layer's method and its replacement; None for a layer that is not changed."""
    backend = keras.backend.backend()
    method, operation = "call", None
    if backend == "tensorflow" and _skips_pixels(layer):
        method, operation = "convolution_op", functools.partial(_convolve_kept_pixels, layer)
    elif not enabled:
        return None
    elif backend in NORMALIZATIONS and _is_plain_normalization(layer):
        operation = functools.partial(_normalize, layer, NORMALIZATIONS[backend])
    elif backend == "torch" and _pads_evenly(layer):
        method, operation = "convolution_op", functools.partial(_convolve_on_torch, layer)
    elif backend == "torch" and _is_plain_depthwise(layer):
        operation = functools.partial(_convolve_depthwise_on_torch, layer)
    elif backend == "torch" and _cuts_rims(layer):
        operation = functools.partial(_pool_on_torch, layer)
    # Already replaced inside another such block.
    return (method, operation) if operation and method not in vars(layer) else None


def _is_plain_normalization(layer):
    """Whether it is Keras's own, over the channels of images or volumes, with float32 weights, on one device."""
    if type(layer) is not layers.BatchNormalization or layer.renorm or layer.synchronized:
        return False
    rank: Any = layer.input_spec and layer.input_spec.ndim
    return layer.variable_dtype == "float32" and rank in (4, 5) and layer.axis in (-1, rank - 1)


def _normalize(layer, operation, inputs, training=None, mask=None):
    if not (training and layer.trainable) or mask is not None:
        if keras.backend.backend() == "torch" and mask is None and layer.compute_dtype == "float32":
            return _scale_and_shift_on_torch(layer, inputs)
        return type(layer).call(layer, inputs, training=training, mask=mask)
    channels = inputs.shape[-1]
    gamma: Any = ops.cast(layer.gamma, "float32") if layer.scale else ops.ones(channels)
    beta: Any = ops.cast(layer.beta, "float32") if layer.center else ops.zeros(channels)
    outputs, mean, variance = operation(inputs, gamma, beta, layer.epsilon)
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + ops.cast(value, moving.dtype) * (1 - layer.momentum))
    return outputs


def _scale_and_shift_on_torch(layer, inputs):
    """Normalization with known statistics in one pass over memory; Keras makes three."""
    import torch

    scale: Any = ops.rsqrt(ops.add(layer.moving_variance, layer.epsilon))
    scale = scale * layer.gamma if layer.scale else scale
    shift: Any = ops.convert_to_tensor((layer.beta if layer.center else 0.0) - layer.moving_mean * scale)
    return torch.addcmul(shift, inputs, scale)


def _normalize_on_tensorflow(inputs, gamma, beta, epsilon):
    import tensorflow as tf

    shape = tf.shape(inputs)
    images = inputs if len(inputs.shape) == 4 else tf.reshape(inputs, [shape[0], -1, shape[3], inputs.shape[-1]])
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images, scale=gamma, offset=beta, mean=[], variance=[], epsilon=epsilon, is_training=True
    )
    # The operation returns the unbiased variance; Keras keeps the biased one.
    count = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
    return tf.reshape(outputs, shape), mean, variance * (count - 1) / count


def _normalize_on_torch(inputs, gamma, beta, epsilon):
    import torch

    outputs, mean, inverse_deviation = torch.native_batch_norm(
        inputs.movedim(-1, 1), gamma, beta, None, None, True, 0.0, epsilon
    )
    return outputs.movedim(1, -1), mean, inverse_deviation.pow(-2) - epsilon


NORMALIZATIONS = {"tensorflow": _normalize_on_tensorflow, "torch": _normalize_on_torch}


def _is_plain_convolution(layer):
    """Whether it is Keras's own convolution of images or volumes, with channels last."""
    if not isinstance(layer, layers.Conv2D | layers.Conv3D) or layer.data_format != "channels_last":
        return False
    return type(layer).convolution_op is layers.Conv2D.convolution_op


def _skips_pixels(layer):
    """Whether it is a strided 1 x 1 or 1 x 1 x 1 convolution."""
    return _is_plain_convolution(layer) and set(layer.kernel_size) == {1} and set(layer.strides) != {1}


def _convolve_kept_pixels(layer, inputs, kernel):
    kept = (slice(None), *(slice(None, None, stride) for stride in layer.strides))
    return ops.conv(inputs[kept], kernel, strides=1, padding="valid", data_format="channels_last")


def _pads_evenly(layer):
    """Whether it is a convolution of images or volumes without padding, or with symmetric padding."""
    if not _is_plain_convolution(layer):
        return False
    even = all(rate * (size - 1) % 2 == 0 for rate, size in zip(layer.dilation_rate, layer.kernel_size, strict=True))
    return layer.padding == "valid" or set(layer.kernel_size) == {1} or (set(layer.strides) == {1} and even)


def _convolve_on_torch(layer, inputs, kernel):
    import torch

    weights: Any = ops.convert_to_tensor(kernel)
    outputs = (torch.conv2d if layer.rank == 2 else torch.conv3d)(
        inputs.movedim(-1, 1),
        weights.movedim((-1, -2), (0, 1)),
        stride=layer.strides,
        # torch refuses "same" with strides even if there is nothing to pad.
        padding="valid" if set(layer.kernel_size) == {1} else layer.padding,
        dilation=layer.dilation_rate,
        groups=inputs.shape[-1] // weights.shape[-2],
    )
    return outputs.movedim(1, -1)


def _is_plain_depthwise(layer):
    """Whether it is Keras's own depthwise convolution of images, with channels last."""
    return type(layer) is layers.DepthwiseConv2D and layer.data_format == "channels_last"


def _convolve_depthwise_on_torch(layer, inputs):
    import torch

    kernel: Any = ops.convert_to_tensor(layer.kernel)
    weights = kernel.movedim((2, 3), (0, 1)).flatten(0, 1).unsqueeze(1)
    bias: Any = ops.convert_to_tensor(layer.bias) if layer.use_bias else None
    images, padding = inputs.movedim(-1, 1), [0, 0]
    if layer.padding == "same":  # As TensorFlow pads: the larger half behind.
        missing = [
            max(0, (-(-side // stride) - 1) * stride + rate * (size - 1) + 1 - side)
            for side, stride, rate, size in zip(
                images.shape[2:], layer.strides, layer.dilation_rate, layer.kernel_size, strict=True
            )
        ]
        padding = [count // 2 for count in missing]
        if any(count % 2 for count in missing):
            behind = [count % 2 for count in missing]
            images = torch.nn.functional.pad(images, (0, behind[1], 0, behind[0]))
    outputs = torch.conv2d(images, weights, bias, layer.strides, padding, layer.dilation_rate, images.shape[1])
    return layer.activation(outputs.movedim(1, -1))


def _cuts_rims(layer):
    """Whether it is Keras's max pooling of images without padding."""
    return type(layer) is layers.MaxPooling2D and (layer.padding, layer.data_format) == ("valid", "channels_last")


def _pool_on_torch(layer, inputs):
    import torch

    outputs = torch.max_pool2d(inputs.movedim(-1, 1), layer.pool_size, layer.strides)
    return outputs.movedim(1, -1)
