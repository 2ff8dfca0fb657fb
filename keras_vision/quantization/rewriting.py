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
from keras_vision.quantization.plain_calls import MatMul, Names, gelu_tanh
from keras_vision.quantization.plain_layers import DROPOUT
from keras_vision.quantization.plain_model import plain_model
from keras_vision.quantization.quantized_layers import (
    FakeQuantize,
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
from keras_vision.quantization.ranges import SOFTMAX_RANGE, TANH_RANGE
from keras_vision.recipe import InputError

# Layers that move values without changing them: their output has the range of their input.
SAME_RANGE = (
    layers.MaxPooling2D,
    layers.GlobalMaxPooling2D,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.UpSampling2D,
    Regroup,
    StackDepth,
    *DROPOUT,
)
WEIGHTED = {
    layers.Conv2D: QuantizedConv2D,
    layers.Conv2DTranspose: QuantizedConv2DTranspose,
    layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    layers.Dense: QuantizedDense,
}
MERGES = (layers.Add, layers.Subtract, layers.Multiply)
# The range that LiteRT's kernel fixes for the output of an activation.
FIXED_RANGES = {"sigmoid": SOFTMAX_RANGE, "softmax": SOFTMAX_RANGE, "tanh": TANH_RANGE}
FUSED_ACTIVATIONS = ("relu", "relu6")


def with_fake_quantization(
    model: keras.Model,
    *,
    input_range: tuple[float, float] = (0.0, 255.0),
    dropout: bool = True,
    simulate: bool = True,
    integers: bool = True,
) -> keras.Model:
    """A copy of a model that computes as its integer file will and trains on every backend.

    Args:
        model: A functional or built Sequential model with one image input; it is not changed.
        input_range: `(low, high)` of the images that the model takes.
        dropout: False removes Dropout layers, for training towards the predictions of a teacher without dropout.
        simulate: False returns the same model without any rounding.
        integers: False keeps layers that only files of floats can express as they are.

    Returns:
        A functional model of the same input and output. Its ranges are unset; `set_ranges` sets them.

    Raises:
        InputError: If the model has a layer that cannot be quantized; the message names it.
    """
    low, high = input_range
    if not low < high:
        raise InputError(f"input_range is (lowest, highest). Received: {tuple(input_range)}.")
    return _Rewriting(model, (float(low), float(high)), dropout, simulate, integers).model()


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

    def __init__(self, model, input_range, dropout, simulate, integers):
        self.graph = read_graph(plain_model(model, integers=integers))
        self.name = f"{model.name}_quantized" if simulate else f"{model.name}_float"
        self.input_range, self.dropout, self.simulate = input_range, dropout, simulate
        self.consumers = self.graph.consumers()
        self.values = {}
        self.names = Names()
        for step in self.graph.steps:
            self.names.unique(step.layer.name)

    def model(self):
        images = keras.Input(self.graph.input_shape, name="images")
        self.values[0] = _Value(images, "images")
        for step in self.graph.steps:
            if not isinstance(step.layer, layers.InputLayer):
                self.values[step.output] = self._take(step)
        return keras.Model(images, self._rounded(self.graph.output).tensor, name=self.name)

    def _take(self, step):
        layer, number = step.layer, step.inputs[0]
        if isinstance(layer, layers.Rescaling):
            alone = number == 0 and self.consumers[0] == 1
            return self._input_rescaling(layer) if alone else self._affine(layer, number, layer.scale, layer.offset)
        if isinstance(layer, layers.BatchNormalization):
            return self._normalization(layer, number)
        if type(layer) in WEIGHTED:
            return self._weighted(layer, number)
        if isinstance(layer, MERGES):
            parts = [self._rounded(part).tensor for part in step.inputs]
            return _Value(self._copy(layer)(parts), layer.name, fuses=("activation",))
        if isinstance(layer, (layers.Concatenate, MatMul)):
            return _Value(self._copy(layer)([self._rounded(part).tensor for part in step.inputs]), layer.name)
        if isinstance(layer, (layers.AveragePooling2D, layers.Resizing)):
            # LiteRT's average pooling and resizing keep their input's scale. XNNPACK rounds the weights of resizing to
            # multiples of 1/2048: where that changes them, some values differ by a step.
            rounded = self._rounded(number)
            halves = "up" if isinstance(layer, layers.Resizing) else "away"
            averages = self._copy(layer)(rounded.tensor)
            return _Value(rounded.quantizer(averages, halves=halves), layer.name, rounded.quantizer)
        if isinstance(layer, layers.GlobalAveragePooling2D):
            return _Value(self._copy(layer)(self._rounded(number).tensor), layer.name)
        if isinstance(layer, SAME_RANGE):
            rounded = self._rounded(number)
            if isinstance(layer, DROPOUT) and not self.dropout:
                return rounded
            return _Value(self._copy(layer)(rounded.tensor), layer.name, rounded.quantizer)
        if isinstance(layer, layers.LayerNormalization):
            copy = self._copy(layer)
            tensor = copy(self._rounded(number).tensor)
            copy.set_weights(layer.get_weights())
            return _Value(tensor, layer.name)
        if isinstance(layer, layers.UnitNormalization):
            return self._round(self._copy(layer)(self._rounded(number).tensor), layer.name, TANH_RANGE)
        return self._activation(layer, number)

    def _copy(self, layer):
        return type(layer).from_config(layer.get_config())

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
        scale, offset = layer.scale, layer.offset
        if np.ndim(scale) or np.ndim(offset) or scale <= 0 or tuple(self.input_range) != (0.0, 255.0):
            return self._affine(layer, 0, scale, offset)
        zero = float(np.clip(np.round(-offset / scale), 0, 255))
        shifted = layers.Rescaling(scale, -zero * scale if self.simulate else offset, name=layer.name)
        return self._round(shifted(self.values[0].tensor), layer.name, (-zero * scale, (255 - zero) * scale))

    def _affine(self, layer, number, scale, offset):
        """A factor and an offset for each channel, as a 1 x 1 depthwise convolution."""
        value = self._rounded(number)
        shape = tuple(value.tensor.shape[1:])
        channels = shape[-1]
        convolution = QuantizedDepthwiseConv2D(kernel_size=1, simulate=self.simulate, name=layer.name)
        tensor = value.tensor
        if len(shape) != 3:
            grid = (int(np.prod(shape[:-1], dtype=int)), 1, channels)
            tensor = layers.Reshape(grid, name=self.names.unique(f"{layer.name}_in"))(tensor)
        tensor = convolution(tensor)
        kernel = np.broadcast_to(np.reshape(scale, -1), channels).astype("float32")
        bias = np.broadcast_to(np.reshape(offset, -1), channels).astype("float32")
        convolution.set_weights([kernel.reshape(1, 1, channels, 1), bias])
        if len(shape) == 3:
            return _Value(tensor, layer.name, fuses=("normalization", "activation"))
        rounded = self._round(tensor, layer.name)
        name = self.names.unique(f"{layer.name}_out")
        return _Value(layers.Reshape(shape, name=name)(rounded.tensor), name, rounded.quantizer)

    def _normalization(self, layer, number):
        value = self.values[number]
        if "normalization" not in value.fuses or self.consumers[number] > 1:
            mean, factor, offset = normalization_parts(layer)
            return self._affine(layer, number, factor, offset - mean * factor)
        copy = self._copy(layer)
        tensor = copy(value.tensor)
        copy.set_weights(layer.get_weights())
        return _Value(tensor, layer.name, fuses=("activation",))

    def _weighted(self, layer, number):
        value = self._rounded(number)
        copy = WEIGHTED[type(layer)].from_config({**layer.get_config(), "simulate": self.simulate})
        tensor = copy(value.tensor)
        copy.set_weights(layer.get_weights())
        return _Value(tensor, layer.name, fuses=("normalization", "activation"))

    def _activation(self, layer, number):
        value, name = self.values[number], layer.name
        activation = activation_of(layer)
        if activation in FUSED_ACTIVATIONS and "activation" in value.fuses and self.consumers[number] == 1:
            return _Value(self._copy(layer)(value.tensor), name)
        rounded = self._rounded(number)
        # LiteRT has no operator for silu: values times their sigmoid. Without rounding it stays one layer, because
        # TensorFlow 2.21 cannot run the two before a LeakyReLU.
        if activation == "silu" and self.simulate:
            gate_name = self.names.unique(f"{name}_gate")
            gate = layers.Activation("sigmoid", name=gate_name)(rounded.tensor)
            gate = self._round(gate, gate_name, SOFTMAX_RANGE)
            return _Value(layers.Multiply(name=name)([rounded.tensor, gate.tensor]), name)
        tensor = self._copy(layer)(rounded.tensor)
        if activation in FIXED_RANGES:
            return self._round(tensor, name, FIXED_RANGES[activation])
        return _Value(tensor, name)


def activation_of(layer: Any) -> str:
    """Name of the activation of a layer of `plain_model`."""
    if isinstance(layer, layers.ReLU):
        return "relu" if layer.max_value is None else "relu6"
    if isinstance(layer, layers.LeakyReLU):
        return "leaky_relu"
    if isinstance(layer, layers.ELU):
        return "elu"
    function = layer.activation
    return "gelu_tanh" if function is gelu_tanh else function.__name__


def normalization_parts(layer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | float]:
    """Mean, factor and offset of each channel, float64, of a BatchNormalization in inference."""
    mean, variance = (np.asarray(_array(part), np.float64) for part in (layer.moving_mean, layer.moving_variance))
    factor = (_array(layer.gamma) if layer.scale else 1) / np.sqrt(variance + layer.epsilon)
    return mean, factor, _array(layer.beta) if layer.center else 0.0


def _array(variable) -> Any:
    return keras.ops.convert_to_numpy(variable)
