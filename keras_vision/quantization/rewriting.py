"""A copy of a model that computes as its integer file will, for quantization-aware training and for writing the file.

A BatchNormalization stays a separate layer after its convolution, because that equals folding it: scaling a channel
scales its largest weight, and so its step, alike. Its statistics can be trained until they are frozen.
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.keras_internals.graph import read_graph
from keras_vision.keras_internals.nodes import first_input, maker
from keras_vision.quantization.lowering import Regroup, StackDepth
from keras_vision.quantization.quantized_layers import (
    FakeQuantize,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from keras_vision.quantization.ranges import SOFTMAX_RANGE, TANH_RANGE
from keras_vision.recipe import InputError

DROPOUT = (layers.Dropout, layers.SpatialDropout2D)
# Layers that move values without changing them: their output has the range of their input.
SAME_RANGE = (
    layers.MaxPooling2D,
    layers.GlobalMaxPooling2D,
    layers.Flatten,
    layers.Reshape,
    layers.ZeroPadding2D,
    Regroup,
    StackDepth,
    *DROPOUT,
)
# Activations that need ranges before and after them, with the range that LiteRT's kernel fixes for the output, if any.
ACTIVATION_RANGES = {
    "sigmoid": SOFTMAX_RANGE,
    "softmax": SOFTMAX_RANGE,
    "tanh": TANH_RANGE,
    "elu": None,
    "gelu": None,
    "hard_silu": None,
    "leaky_relu": None,
    "silu": None,
}
ACTIVATIONS = (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax)
FUSED_ACTIVATIONS = ("linear", "relu", "relu6")
SUPPORTED = (
    "Conv2D, DepthwiseConv2D, SeparableConv2D, Dense, BatchNormalization, Rescaling, Normalization, Add, Multiply, "
    "Concatenate, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D, Flatten, Reshape, "
    "ZeroPadding2D, Resizing, Dropout, SpatialDropout2D, ReLU, LeakyReLU, ELU, Softmax, and Activation with "
    + ", ".join((*FUSED_ACTIVATIONS, *ACTIVATION_RANGES))
)


def with_fake_quantization(
    model: keras.Model,
    *,
    input_range: tuple[float, float] = (0.0, 255.0),
    dropout: bool = True,
    simulate: bool = True,
) -> keras.Model:
    """A copy of a model that computes as its integer file will and trains on every backend.

    Args:
        model: A functional or built Sequential model with one image input; it is not changed.
        input_range: `(low, high)` of the images that the model takes.
        dropout: False removes Dropout layers, for training towards the predictions of a teacher without dropout.
        simulate: False returns the same model without any rounding.

    Returns:
        A functional model of the same input and output. Its ranges are unset; `set_ranges` sets them.

    Raises:
        InputError: If the model has a layer that cannot be quantized; the message names it.
    """
    return _Rewriting(model, input_range, dropout, simulate).model()


def without_last_rounding(quantized: keras.Model) -> keras.Model:
    """The model up to the rounding of its logits: where logits are clipped they have no gradient, and so no heatmap."""
    last = maker(quantized.output)
    if not isinstance(last, FakeQuantize):
        return quantized
    return keras.Model(quantized.input, first_input(last), name=quantized.name)


class _Value:
    """A tensor of the new model.

    Attributes:
        tensor: The tensor.
        quantizer: The layer that rounded it, or None while other layers may still be fused into the one that made it.
        fuses: Kinds of layers that may be fused: "normalization", "activation".
        name: Name of the layer that made it.
    """

    def __init__(self, tensor: Any, name: str, quantizer: Any = None, fuses: tuple[str, ...] = ()):
        self.tensor, self.name, self.quantizer, self.fuses = tensor, name, quantizer, fuses


class _Rewriting:
    """Builds the new model step by step; a tensor is rounded when a layer that cannot be fused takes it."""

    def __init__(self, model, input_range, dropout, simulate):
        self.graph = read_graph(model)
        self.name = f"{model.name}_quantized" if simulate else f"{model.name}_float"
        self.input_range, self.dropout, self.simulate = input_range, dropout, simulate
        self.consumers = self.graph.consumers()
        self.values = {}

    def model(self):
        images = keras.Input(self.graph.input_shape, name="images")
        self.values[0] = _Value(images, "images")
        for step in self.graph.steps:
            if not isinstance(step.layer, layers.InputLayer):
                self.values[step.output] = self._take(step)
        return keras.Model(images, self._rounded(self.graph.output).tensor, name=self.name)

    def _take(self, step):
        layer, value = step.layer, self.values[step.inputs[0]]
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            raise self._refusal(layer, " with channels first")
        if isinstance(layer, layers.Rescaling) and step.inputs[0] == 0 and value.quantizer is None:
            return self._input_rescaling(layer)
        if isinstance(layer, (layers.Rescaling, layers.Normalization)):
            return self._affine(layer, step, *_scale_and_offset(layer))
        if isinstance(layer, layers.BatchNormalization):
            return self._normalization(layer, step)
        if isinstance(layer, layers.SeparableConv2D):
            return self._separable(layer, step)
        if type(layer) in (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense):
            return self._weighted(layer, step)
        if isinstance(layer, (layers.Add, layers.Multiply, layers.Concatenate)):
            return self._merge(layer, step)
        if isinstance(layer, layers.Resizing) and not _plainly_bilinear(layer):
            raise self._refusal(layer, " other than bilinear")
        if isinstance(layer, (layers.AveragePooling2D, layers.Resizing)):
            # LiteRT's average pooling and resizing keep their input's scale. XNNPACK rounds the weights of resizing to
            # multiples of 1/2048: where that changes them, some values differ by a step.
            rounded = self._rounded(step.inputs[0])
            halves = "up" if isinstance(layer, layers.Resizing) else "away"
            averages = self._copy(layer)(rounded.tensor)
            return _Value(rounded.quantizer(averages, halves=halves), layer.name, rounded.quantizer)
        if isinstance(layer, layers.GlobalAveragePooling2D):
            return _Value(self._copy(layer)(self._rounded(step.inputs[0]).tensor), layer.name)
        if isinstance(layer, SAME_RANGE):
            rounded = self._rounded(step.inputs[0])
            if isinstance(layer, DROPOUT) and not self.dropout:
                return rounded
            return _Value(self._copy(layer)(rounded.tensor), layer.name, rounded.quantizer)
        if type(layer) not in ACTIVATIONS:
            raise self._refusal(layer)
        return self._activation(activation_of(layer), layer, step.inputs[0])

    def _refusal(self, layer, detail=""):
        return InputError(
            f"The layer {layer.name!r} ({type(layer).__name__}{detail}) cannot be quantized. Supported: {SUPPORTED}."
        )

    def _copy(self, layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    def _round(self, tensor, name, fixed_range=None):
        quantizer = FakeQuantize(fixed_range, simulate=self.simulate, name=f"{name}_range")
        return _Value(quantizer(tensor), name, quantizer)

    def _rounded(self, number):
        """A tensor with a range, rounded at its first use."""
        value = self.values[number]
        if value.quantizer is None:
            value = self._round(value.tensor, value.name, self.input_range if number == 0 else None)
            self.values[number] = value
        return value

    def _input_rescaling(self, layer):
        """Pixels are integers, so a scale costs nothing, and an offset is rounded to a whole pixel value.

        Zero must be a whole number for padding to mean what it does in the float model.
        """
        low, high = self.input_range
        scale, offset = layer.scale, layer.offset
        if np.ndim(scale) or np.ndim(offset) or scale <= 0 or (low, high) != (0.0, 255.0):
            return self._affine(layer, None, scale, offset)
        zero = float(np.clip(np.round(-offset / scale), 0, 255))
        shifted = layers.Rescaling(scale, -zero * scale if self.simulate else offset, name=layer.name)
        return self._round(shifted(self.values[0].tensor), layer.name, (-zero * scale, (255 - zero) * scale))

    def _affine(self, layer, step, scale, offset):
        """A factor and an offset for each channel, as a 1 x 1 depthwise convolution."""
        value = self._rounded(step.inputs[0] if step else 0)
        channels = value.tensor.shape[-1]
        if len(value.tensor.shape) != 4:
            raise self._refusal(layer, " on vectors, without a Dense before it")
        convolution = QuantizedDepthwiseConv2D(kernel_size=1, simulate=self.simulate, name=layer.name)
        tensor = convolution(value.tensor)
        kernel = np.broadcast_to(np.reshape(scale, -1), channels).astype("float32")
        bias = np.broadcast_to(np.reshape(offset, -1), channels).astype("float32")
        convolution.set_weights([kernel.reshape(1, 1, channels, 1), bias])
        return _Value(tensor, layer.name, fuses=("normalization", "activation"))

    def _normalization(self, layer, step):
        value = self.values[step.inputs[0]]
        if layer.axis not in (-1, len(value.tensor.shape) - 1):
            raise self._refusal(layer, f" with axis {layer.axis}")
        if "normalization" not in value.fuses or self.consumers[step.inputs[0]] > 1:
            mean, factor, offset = normalization_parts(layer)
            return self._affine(layer, step, factor, offset - mean * factor)
        copy = self._copy(layer)
        tensor = copy(value.tensor)
        copy.set_weights(layer.get_weights())
        return _Value(tensor, layer.name, fuses=value.fuses)

    def _weighted(self, layer, step):
        kinds = {layers.Conv2D: QuantizedConv2D, layers.DepthwiseConv2D: QuantizedDepthwiseConv2D}
        kind = kinds.get(type(layer), QuantizedDense)
        if getattr(layer, "groups", 1) != 1:
            raise self._refusal(layer, f" with {layer.groups} groups")
        value = self._rounded(step.inputs[0])
        if kind is QuantizedDense and len(value.tensor.shape) != 2:
            raise self._refusal(layer, f" on tensors of rank {len(value.tensor.shape)}")
        config = {**layer.get_config(), "activation": "linear", "dtype": "float32", "simulate": self.simulate}
        # A kernel that Keras itself quantizes would have more weights than the layer's.
        config.pop("quantization_config", None)
        copy = kind.from_config(config)
        tensor = copy(value.tensor)
        copy.set_weights(layer.get_weights())
        self.values[step.output] = _Value(tensor, layer.name, fuses=("normalization", "activation"))
        return self._activation(activation_of(layer), layer, step.output, inner=True)

    def _separable(self, layer, step):
        """A depthwise convolution and a 1 x 1 convolution."""
        shared = {"padding": layer.padding, "simulate": self.simulate}
        depthwise = QuantizedDepthwiseConv2D(
            kernel_size=layer.kernel_size,
            strides=layer.strides,
            dilation_rate=layer.dilation_rate,
            depth_multiplier=layer.depth_multiplier,
            use_bias=False,
            name=f"{layer.name}_depthwise",
            **shared,
        )
        value = self._rounded(step.inputs[0])
        middle = self._round(depthwise(value.tensor), depthwise.name)
        pointwise = QuantizedConv2D(layer.filters, 1, use_bias=layer.use_bias, name=layer.name, **shared)
        tensor = pointwise(middle.tensor)
        weights = layer.get_weights()
        depthwise.set_weights(weights[:1])
        pointwise.set_weights(weights[1:])
        self.values[step.output] = _Value(tensor, layer.name, fuses=("normalization", "activation"))
        return self._activation(activation_of(layer), layer, step.output, inner=True)

    def _merge(self, layer, step):
        parts = [self._rounded(number) for number in step.inputs]
        if isinstance(layer, layers.Concatenate):
            return _Value(self._copy(layer)([part.tensor for part in parts]), layer.name)
        total, *rest = parts
        for count, part in enumerate(rest, 1):
            last = count == len(rest)
            name = layer.name if last else f"{layer.name}_{count}"
            tensor = type(layer)(name=name)([total.tensor, part.tensor])
            total = _Value(tensor, name, fuses=("activation",)) if last else self._round(tensor, name)
        return total

    def _activation(self, activation, layer, number, *, inner=False):
        """Applies an activation to tensor `number`; `inner` when it is an argument of the layer that made it."""
        value = self.values[number]
        if activation == "linear":
            return value
        name = f"{layer.name}_{activation}" if inner else layer.name
        apply = _activation_layer(activation, layer, name)
        alone = inner or self.consumers[number] == 1
        if activation in FUSED_ACTIVATIONS and "activation" in value.fuses and alone:
            return _Value(apply(value.tensor), name)
        if activation not in (*FUSED_ACTIVATIONS, *ACTIVATION_RANGES):
            raise self._refusal(layer, "" if activation is None else f" with activation {activation}")
        rounded = self._rounded(number)
        # LiteRT has no operator for silu: values times their sigmoid. Without rounding it stays one layer, because
        # TensorFlow 2.21 cannot run the two before a LeakyReLU.
        if activation == "silu" and self.simulate:
            gate = layers.Activation("sigmoid", name=f"{name}_gate")(rounded.tensor)
            gate = self._round(gate, f"{name}_gate", SOFTMAX_RANGE)
            return _Value(layers.Multiply(name=name)([rounded.tensor, gate.tensor]), name)
        fixed = ACTIVATION_RANGES.get(activation)
        tensor = apply(rounded.tensor)
        return self._round(tensor, name, fixed) if fixed else _Value(tensor, name)


def activation_of(layer: Any) -> str | None:
    """Name of the activation that a layer is or ends in; None for other layers."""
    if isinstance(layer, layers.ReLU):
        if layer.threshold:
            return "thresholded relu"
        if layer.negative_slope:
            return "leaky_relu" if layer.max_value is None else "capped leaky relu"
        return {None: "relu", 6: "relu6"}.get(layer.max_value, f"relu up to {layer.max_value}")
    simple = {layers.LeakyReLU: "leaky_relu", layers.ELU: "elu", layers.Softmax: "softmax"}
    if type(layer) in simple:
        return simple[type(layer)]
    function = getattr(layer, "activation", None)
    if function is None:
        return None
    name = keras.activations.serialize(function)
    name = name if isinstance(name, str) else type(function).__name__
    return {"swish": "silu", "hard_swish": "hard_silu"}.get(name, name)


def _activation_layer(activation, layer, name):
    if type(layer) in (layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Softmax):
        return type(layer).from_config({**layer.get_config(), "name": name, "dtype": "float32"})
    if activation == "relu":
        return layers.ReLU(name=name)
    if activation == "relu6":
        return layers.ReLU(6.0, name=name)
    return layers.Activation(layer.activation if activation is not None else None, name=name)


def _plainly_bilinear(layer):
    others = layer.antialias, layer.crop_to_aspect_ratio, layer.pad_to_aspect_ratio
    return layer.interpolation == "bilinear" and not any(others)


def _scale_and_offset(layer):
    if isinstance(layer, layers.Rescaling):
        return layer.scale, layer.offset
    mean, variance = (np.ravel(_array(part)) for part in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    return (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)


def normalization_parts(layer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
    """Mean, factor and offset of each channel, float64, of a BatchNormalization in inference."""
    mean, variance = (np.asarray(_array(part), np.float64) for part in (layer.moving_mean, layer.moving_variance))
    factor = (_array(layer.gamma) if layer.scale else 1) / np.sqrt(variance + layer.epsilon)
    return mean, factor, _array(layer.beta) if layer.center else 0.0


def _array(variable) -> Any:
    return keras.ops.convert_to_numpy(variable)
