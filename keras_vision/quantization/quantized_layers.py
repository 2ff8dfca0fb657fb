"""Trainable layers that round as an integer file does.

Weights of convolutions and dense layers are symmetric 8-bit integers with a scale for each output channel; activations
are 8-bit integers with one scale and zero point per tensor. Rounding passes gradients straight through
(Bengio et al. 2013, https://arxiv.org/abs/1308.3432; Jacob et al. 2018, https://arxiv.org/abs/1712.05877).
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.quantization.ranges import HIGHEST, LOWEST, NARROW, parameters

PACKAGE = "keras_vision"
# Keras annotates nearly every operation as one that may return None.
ops: Any = keras.ops


def fake_quantize(
    values: Any, scale: Any, zero_point: Any, lowest: int = LOWEST, highest: int = HIGHEST, *, halves: str = "even"
) -> Any:
    """Rounds values to the nearest ones that integers represent; gradients pass where nothing was clipped.

    Args:
        values: Float tensor.
        scale: Size of a step; broadcasts with the values.
        zero_point: The integer that represents 0.
        halves: How the middle between two integers is rounded: to the "even" one; "away" from zero or "up" for averages
            of rounded values, as in LiteRT's average pooling and XNNPACK's resizing.
    """
    inside = ops.clip(values, (lowest - zero_point) * scale, (highest - zero_point) * scale)
    if halves == "even":
        integers = ops.round(values / scale) + zero_point
    else:
        integers = _round_halves(values / scale + zero_point, halves)
    rounded = (ops.clip(integers, lowest, highest) - zero_point) * scale
    return inside + ops.stop_gradient(rounded - inside)


def _round_halves(values, halves):
    """Rounds halves "away" from zero or "up"; averages of integers are often halves, up to a rounding error."""
    if halves == "up":
        return ops.floor(values + (0.5 + 1e-4))
    return ops.sign(values) * ops.floor(ops.abs(values) + (0.5 + 1e-4))


def fake_quantize_kernel(kernel: Any) -> Any:
    """A kernel rounded to 8 bits: symmetric, with a scale for each output channel, the last axis."""
    axes = tuple(range(len(kernel.shape) - 1))
    largest = ops.stop_gradient(ops.max(ops.abs(kernel), axis=axes, keepdims=True))
    scale = ops.maximum(largest, 1e-8) / NARROW
    return fake_quantize(kernel, scale, 0.0, -NARROW, NARROW)


@keras.saving.register_keras_serializable(PACKAGE)
class FakeQuantize(layers.Layer):
    """Rounds a tensor to 8 bits, in a range that is a moving average of the ranges of its batches in training.

    Args:
        fixed_range: `(low, high)` that never moves, or None.
        momentum: Momentum of the moving average.
        simulate: Whether to round; without rounding, every tensor of a model is that of the float model.
    """

    low: Any
    high: Any

    def __init__(
        self,
        fixed_range: tuple[float, float] | None = None,
        momentum: float = 0.99,
        simulate: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.fixed_range = tuple(fixed_range) if fixed_range else None
        self.momentum = momentum
        self.simulate = simulate

    def build(self, input_shape: Any) -> None:
        low, high = self.fixed_range or (0.0, 0.0)
        start = {"shape": (), "trainable": False, "dtype": "float32"}
        self.low = self.add_weight(name="low", initializer=keras.initializers.Constant(low), **start)
        self.high = self.add_weight(name="high", initializer=keras.initializers.Constant(high), **start)

    def call(self, values: Any, training: bool = False, halves: str = "even") -> Any:
        """Rounds values; with other `halves` they are averages of rounded values and do not move the range."""
        if not self.simulate:
            return values
        if training and halves == "even" and self.trainable and self.fixed_range is None:
            self._follow(ops.stop_gradient(values))
        low, high = ops.convert_to_tensor(self.low), ops.convert_to_tensor(self.high)
        scale = ops.maximum((high - low) / (HIGHEST - LOWEST), 1e-8)
        zero_point = ops.clip(ops.round(LOWEST - low / scale), LOWEST, HIGHEST)
        return fake_quantize(values, scale, zero_point, halves=halves)

    def _follow(self, values):
        low, high = ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0)
        # The average starts at the first batch: starting at zero would clip most values of the next ones.
        started = ops.cast(self.high - self.low > 0, "float32")
        rate = 1 - self.momentum * started
        self.low.assign(self.low + rate * (low - self.low))
        self.high.assign(self.high + rate * (high - self.high))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"fixed_range": self.fixed_range, "momentum": self.momentum, "simulate": self.simulate}
        return {**super().get_config(), **own}


class _WithQuantizedKernel(layers.Layer):
    """Makes a Keras layer with weights, the next base class, round its kernel at every call.

    Args:
        simulate: Whether to round.
        input_scale: Scale of the inputs, in a folded model, which is not trainable: kernel and bias are then the
            integers of the file, `scales` are those of the kernel, and the layer computes with them as LiteRT does.
    """

    kernel: Any
    bias: Any
    use_bias: bool
    scales: Any

    def __init__(self, *arguments: Any, simulate: bool = True, input_scale: float | None = None, **kwargs: Any):
        super().__init__(*arguments, **kwargs)
        self.simulate = simulate
        self.input_scale = input_scale

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if self.input_scale is not None:
            return self._with_integers(inputs)
        kernel = self.flat_kernel()
        outputs = self.linear(inputs, fake_quantize_kernel(kernel) if self.simulate else kernel)
        return ops.add(outputs, self.bias) if self.use_bias else outputs

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.input_scale is not None:
            channels = self.flat_kernel().shape[-1]
            self.scales = self.add_weight(name="scales", shape=(channels,), initializer="ones", trainable=False)

    def linear(self, inputs: Any, kernel: Any) -> Any:
        """The layer's outputs with a kernel in the shape of `flat_kernel`, without a bias."""
        raise NotImplementedError

    def flat_kernel(self) -> Any:
        """The kernel with its output channels on the last axis."""
        return ops.convert_to_tensor(self.kernel)

    def unflattened(self, kernel: Any) -> Any:
        """A kernel in the shape of `flat_kernel` in the layer's own shape."""
        return ops.reshape(kernel, self.kernel.shape)

    def _with_integers(self, inputs):
        accumulated = self.linear(ops.round(inputs / self.input_scale), self.flat_kernel()) + self.bias
        return accumulated * (ops.convert_to_tensor(self.scales) * self.input_scale)

    def get_config(self) -> dict[str, Any]:
        own = {"simulate": self.simulate, "input_scale": self.input_scale}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedConv2D(_WithQuantizedKernel, layers.Conv2D):
    """Conv2D with an 8-bit kernel."""

    def linear(self, inputs: Any, kernel: Any) -> Any:
        return self.convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedDepthwiseConv2D(_WithQuantizedKernel, layers.DepthwiseConv2D):
    """DepthwiseConv2D with an 8-bit kernel."""

    def flat_kernel(self) -> Any:
        """Shape `(height, width, channels * multiplier)`."""
        height, width, channels, multiplier = self.kernel.shape
        return ops.reshape(self.kernel, (height, width, channels * multiplier))

    def linear(self, inputs: Any, kernel: Any) -> Any:
        return ops.depthwise_conv(
            inputs,
            self.unflattened(kernel),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedConv2DTranspose(_WithQuantizedKernel, layers.Conv2DTranspose):
    """Conv2DTranspose with an 8-bit kernel."""

    def flat_kernel(self) -> Any:
        """Shape `(height, width, channels, filters)`."""
        return ops.transpose(ops.convert_to_tensor(self.kernel), (0, 1, 3, 2))

    def unflattened(self, kernel: Any) -> Any:
        """Shape `(height, width, filters, channels)`."""
        return ops.transpose(kernel, (0, 1, 3, 2))

    def linear(self, inputs: Any, kernel: Any) -> Any:
        return ops.conv_transpose(
            inputs,
            self.unflattened(kernel),
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable(PACKAGE)
class QuantizedDense(_WithQuantizedKernel, layers.Dense):
    """Dense with an 8-bit kernel."""

    def linear(self, inputs: Any, kernel: Any) -> Any:
        return ops.matmul(inputs, kernel)


WEIGHTED = (QuantizedConv2D, QuantizedConv2DTranspose, QuantizedDepthwiseConv2D, QuantizedDense)


def stored_weights(layer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights of a folded layer as its file stores them.

    Returns:
        `(scales, kernel, bias)`: float32, one per output channel; int8, output channels last; int32.
    """
    scales, kernel, bias = (ops.convert_to_numpy(part) for part in (layer.scales, layer.flat_kernel(), layer.bias))
    return scales, kernel.astype(np.int8), bias.astype(np.int32)


def quantizers(model: keras.Model) -> list[FakeQuantize]:
    """The layers of a fake-quantized model that have ranges, in order."""
    return [layer for layer in model.layers if isinstance(layer, FakeQuantize)]


def range_of(quantizer: Any) -> tuple[np.float32, int]:
    """Scale and zero point of a `FakeQuantize` layer."""
    return parameters(*(float(ops.convert_to_numpy(end)) for end in (quantizer.low, quantizer.high)))


def is_unset(quantizer: FakeQuantize) -> bool:
    """Whether a range is neither fixed nor set."""
    return not np.any([ops.convert_to_numpy(quantizer.low), ops.convert_to_numpy(quantizer.high)])
