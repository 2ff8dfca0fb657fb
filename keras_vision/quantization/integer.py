"""From a fake-quantized model to its full-integer file, with the model's own scales and zero points.

The file is written operator by operator instead of through TensorFlow's converter, so that it computes exactly what was
simulated, on every backend and without TensorFlow.
"""

import collections
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from keras_vision.keras_internals.graph import read_graph, scoring_step
from keras_vision.quantization.flatbuffer import FlatModel, Tensor
from keras_vision.quantization.folding import fold
from keras_vision.quantization.lowering import Regroup, StackDepth
from keras_vision.quantization.plain_calls import MatMul
from keras_vision.quantization.plain_layers import DROPOUT
from keras_vision.quantization.quantized_layers import (
    FakeQuantize,
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    range_of,
    stored_weights,
)
from keras_vision.quantization.ranges import SOFTMAX_RANGE, parameters
from keras_vision.quantization.rewriting import SAME_RANGE, activation_of

ACTIVATIONS = {
    "linear": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
UNARY = {
    "relu": "RELU",
    "relu6": "RELU6",
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "elu": "ELU",
    "gelu": "GELU",
    "gelu_tanh": "GELU",
    "hard_silu": "HARD_SWISH",
    "leaky_relu": "LEAKY_RELU",
}


@dataclass(frozen=True)
class IntegerFile:
    """A finished file and what it was written from.

    Attributes:
        content: The file's bytes.
        folded: The model of `fold`.
        tensors: Index in the file of the tensor that a layer makes, by its name and the number of the call.
        adds_scores: Whether the file ends in an operator for probabilities that the model does not have.
    """

    content: bytes
    folded: keras.Model
    tensors: dict[tuple[str, int], int]
    adds_scores: bool


def write_integer_file(
    quantized: keras.Model, *, io: str = "uint8", logits: bool = False, description: str = ""
) -> IntegerFile:
    """The full-integer file of a fake-quantized model.

    Args:
        quantized: A model from `with_fake_quantization` whose ranges are set.
        io: Type of input and output: `uint8`, `int8` or `float32`.
        logits: Whether the file ends in logits instead of probabilities.

    Returns:
        The file with the model that it was written from.
    """
    folded = fold(quantized)
    writer = _Writer(folded, io, logits, description)
    content = writer.file()
    tensors, counts = {}, collections.Counter()
    for step in writer.graph.steps:
        name, value = step.layer.name, writer.values.get(step.output)
        if isinstance(value, Tensor):
            tensors[name, counts[name]] = value.number
        counts[name] += 1
    return IntegerFile(content, folded, tensors, not logits and scoring_step(writer.graph) is None)


class _Pending:
    """An operator whose output range is not known yet, into which an activation may still be fused.

    Attributes:
        operator: Name of the builtin operator.
        inputs: Tensors.
        options: The schema's options.
        weights: Scales, kernel and bias of `quantized_layers.stored_weights`; None without weights.
        activation: Name of the fused activation.
    """

    def __init__(self, operator: str, inputs: list, options: Any = None, weights: Any = None):
        self.operator, self.inputs, self.options, self.weights = operator, inputs, options, weights
        self.activation: str = "linear"


class _Writer:
    def __init__(self, quantized, io, logits, description):
        self.graph = read_graph(quantized)
        self.io, self.logits = io, logits
        self.file_model = FlatModel(description)
        self.values: dict[int, Any] = {}  # Tensor or _Pending by number.

    def file(self):
        steps = [step for step in self.graph.steps if not isinstance(step.layer, layers.InputLayer)]
        first = self._input(steps)
        for step in steps:
            if step.output not in self.values:
                self.values[step.output] = self._take(step)
        end = self._output(self.values[self.graph.output])
        return self.file_model.finish(first, end)

    def _input(self, steps):
        """The file's input; `values` gets the same pixels as int8."""
        number, shape, name = 0, (1, *self.graph.input_shape), "images"
        if isinstance(steps[0].layer, layers.Rescaling):
            number = steps[0].output
            steps = steps[1:]
        scale, zero_point = range_of(steps[0].layer)
        rounded = steps[0].output
        if self.io == "float32" and number:
            images, inside = self._float_input(shape, scale, zero_point)
            self.values[number] = self.values[rounded] = inside
            return images
        if self.io == "int8":
            images = inside = self.file_model.tensor(name, shape, np.int8, scale, zero_point)
        else:
            inside = self.file_model.tensor(f"{name}_int8", shape, np.int8, scale, zero_point)
            images = (
                self.file_model.tensor(name, shape, np.float32)
                if self.io == "float32"
                else self.file_model.tensor(name, shape, np.uint8, scale, zero_point + 128)
            )
            self.file_model.operator("QUANTIZE", [images], inside, schema.QuantizeOptionsT())
        self.values[number] = self.values[rounded] = inside
        return images

    def _float_input(self, shape, scale, zero_point):
        """Rounds float pixels from 0 to 255 to integers before it rescales them, so that they equal bytes as input."""
        images = self.file_model.tensor("images", shape, np.float32)
        pixels = self.file_model.tensor("images_int8", shape, np.int8, 1.0, -128)
        self.file_model.operator("QUANTIZE", [images], pixels, schema.QuantizeOptionsT())
        # Times 1, minus the pixel value of zero: a 1 x 1 depthwise convolution does that without an error. Its bias is
        # in pixels, as is the zero point.
        channels = shape[-1]
        weights = (
            np.full(channels, scale),
            np.ones((1, 1, channels), np.int8),
            np.full(channels, -(zero_point + 128), np.int32),
        )
        options = schema.DepthwiseConv2DOptionsT(
            depthMultiplier=1, strideW=1, strideH=1, padding=schema.Padding.VALID, dilationWFactor=1, dilationHFactor=1
        )
        # The operator takes images, so a volume is a batch of slices.
        slices = shape if len(shape) == 4 else shape[1:]
        pending = _Pending("DEPTHWISE_CONV_2D", [self._reshaped(pixels, "images_slices", slices)], options, weights)
        rescaled = self._emit(pending, "rescaled", slices, scale, zero_point)
        return images, self._reshaped(rescaled, "rescaled_volume", shape)

    def _output(self, output):
        name = "scores"
        if not self.logits and scoring_step(self.graph) is None:
            scale, zero_point = parameters(*SOFTMAX_RANGE)
            scores = self.file_model.tensor(f"{name}_int8", output.shape, np.int8, scale, zero_point)
            # A single logit is that of the second of two classes.
            several = output.shape[-1] > 1
            operator, options = ("SOFTMAX", schema.SoftmaxOptionsT(beta=1.0)) if several else ("LOGISTIC", None)
            output = self.file_model.operator(operator, [output], scores, options)
        if self.io == "int8":
            return output
        if self.io == "float32":
            end = self.file_model.tensor(name, output.shape, np.float32)
            return self.file_model.operator("DEQUANTIZE", [output], end, schema.DequantizeOptionsT())
        end = self.file_model.tensor(name, output.shape, np.uint8, output.scale, output.zero_point + 128)
        return self.file_model.operator("QUANTIZE", [output], end, schema.QuantizeOptionsT())

    def _take(self, step):
        layer, values = step.layer, [self.values[number] for number in step.inputs]
        value = values[0]
        shape = (_batch(value, layer), *step.shape)
        if isinstance(layer, FakeQuantize):
            if not isinstance(value, _Pending):
                return value
            return self._emit(value, layer.name.removesuffix("_range"), shape, *range_of(layer))
        if isinstance(layer, QuantizedConv2D):
            options = schema.Conv2DOptionsT(**_window(layer))
            return _Pending("CONV_2D", [value], options, stored_weights(layer))
        if isinstance(layer, QuantizedConv2DTranspose):
            options = schema.TransposeConvOptionsT(**_strides_and_padding(layer))
            return _Pending("TRANSPOSE_CONV", [value], options, stored_weights(layer))
        if isinstance(layer, QuantizedDepthwiseConv2D):
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=layer.depth_multiplier, **_window(layer))
            return _Pending("DEPTHWISE_CONV_2D", [value], options, stored_weights(layer))
        if isinstance(layer, QuantizedDense):
            options = schema.FullyConnectedOptionsT()
            return _Pending("FULLY_CONNECTED", [value], options, stored_weights(layer))
        if isinstance(layer, layers.Add):
            return _Pending("ADD", values, schema.AddOptionsT())
        if isinstance(layer, layers.Subtract):
            return _Pending("SUB", values, schema.SubOptionsT())
        if isinstance(layer, layers.Multiply):
            return _Pending("MUL", values, schema.MulOptionsT())
        if isinstance(layer, layers.Concatenate):
            axis = layer.axis % len(shape)
            return _Pending("CONCATENATION", values, schema.ConcatenationOptionsT(axis=axis))
        if isinstance(layer, MatMul):
            return _Pending("BATCH_MATMUL", values, schema.BatchMatMulOptionsT())
        if isinstance(layer, layers.UnitNormalization):
            return _Pending("L2_NORMALIZATION", [value], schema.L2NormOptionsT())
        if isinstance(layer, layers.GlobalAveragePooling2D):
            return _Pending("MEAN", [value, self._axes()], schema.ReducerOptionsT(keepDims=layer.keepdims))
        if isinstance(layer, layers.AveragePooling2D):
            return self._same_range("AVERAGE_POOL_2D", layer, [value], shape, _pool(layer))
        if isinstance(layer, layers.Resizing):
            size = self._constant(f"{layer.name}_size", np.array([layer.height, layer.width], np.int32))
            options = schema.ResizeBilinearOptionsT(halfPixelCenters=True)
            return self._same_range("RESIZE_BILINEAR", layer, [value, size], shape, options)
        if isinstance(layer, SAME_RANGE):
            return self._moved(layer, value, shape)
        return self._activation(layer, value)

    def _activation(self, layer, value):
        name = activation_of(layer)
        if isinstance(value, _Pending):
            value.activation = name
            return value
        if name == "softmax":
            return _Pending("SOFTMAX", [value], schema.SoftmaxOptionsT(beta=1.0))
        options = {
            "leaky_relu": lambda: schema.LeakyReluOptionsT(alpha=float(layer.negative_slope)),
            "gelu": lambda: schema.GeluOptionsT(approximate=False),
            "gelu_tanh": lambda: schema.GeluOptionsT(approximate=True),
            "hard_silu": schema.HardSwishOptionsT,
        }.get(name)
        return _Pending(UNARY[name], [value], options() if options else None)

    def _moved(self, layer, value, shape):
        """Layers that move values: the output has the scale and zero point of the input."""
        if isinstance(layer, DROPOUT):
            return value
        if isinstance(layer, layers.MaxPooling2D):
            return self._same_range("MAX_POOL_2D", layer, [value], shape, _pool(layer))
        if isinstance(layer, layers.GlobalMaxPooling2D):
            options = schema.ReducerOptionsT(keepDims=layer.keepdims)
            return self._same_range("REDUCE_MAX", layer, [value, self._axes()], shape, options)
        if isinstance(layer, layers.ZeroPadding2D):
            paddings = np.array([(0, 0), *layer.padding, (0, 0)], np.int32)
            constant = self._constant(f"{layer.name}_paddings", paddings)
            return self._same_range("PAD", layer, [value, constant], shape, schema.PadOptionsT())
        if isinstance(layer, layers.Cropping2D):
            (top, _), (left, _) = layer.cropping
            parts = {"begin": [0, top, left, 0], "size": shape}
            constants = [
                self._constant(f"{layer.name}_{name}", np.array(part, np.int32)) for name, part in parts.items()
            ]
            return self._same_range("SLICE", layer, [value, *constants], shape, schema.SliceOptionsT())
        if isinstance(layer, layers.UpSampling2D):
            size = self._constant(f"{layer.name}_size", np.array(shape[1:3], np.int32))
            options = schema.ResizeNearestNeighborOptionsT()
            return self._same_range("RESIZE_NEAREST_NEIGHBOR", layer, [value, size], shape, options)
        if isinstance(layer, layers.Permute):
            order = self._constant(f"{layer.name}_order", np.array([0, *layer.dims], np.int32))
            return self._same_range("TRANSPOSE", layer, [value, order], shape, schema.TransposeOptionsT())
        if isinstance(layer, StackDepth):
            return self._stacked(layer, value, shape)
        return self._reshaped(value, layer.name, shape)

    def _reshaped(self, value, name, shape):
        if value.shape == shape:
            return value
        output = self.file_model.tensor(name, shape, np.int8, value.scale, value.zero_point)
        target = self._constant(f"{name}_shape", np.array(shape, np.int32))
        return self.file_model.operator(
            "RESHAPE", [value, target], output, schema.ReshapeOptionsT(newShape=list(shape))
        )

    def _stacked(self, layer, value, shape):
        """Pads the batch of slices, picks the slices of each position of a kernel's depth, and joins their channels."""
        if any(layer.padding):
            before = value.shape
            paddings = self._constant(f"{layer.name}_paddings", np.array([layer.padding, *[(0, 0)] * 3], np.int32))
            padded = (before[0] + sum(layer.padding), *before[1:])
            value = self._same_range("PAD", layer, [value, paddings], padded, schema.PadOptionsT(), "_padded")
        parts = []
        for place, (first, end) in enumerate(layer.starts_and_ends()):
            starts, ends = [first, 0, 0, 0], [end, *value.shape[1:]]
            steps = [layer.strides, 1, 1, 1]
            numbers = [
                self._constant(f"{layer.name}_{place}_{name}", np.array(values, np.int32))
                for name, values in (("begin", starts), ("end", ends), ("strides", steps))
            ]
            size = (shape[0], *value.shape[1:])
            options = schema.StridedSliceOptionsT()
            parts.append(self._same_range("STRIDED_SLICE", layer, [value, *numbers], size, options, f"_{place}"))
        if len(parts) == 1:
            return parts[0]
        return self._same_range("CONCATENATION", layer, parts, shape, schema.ConcatenationOptionsT(axis=3))

    def _same_range(self, operator, layer, inputs, shape, options, suffix=""):
        output = self.file_model.tensor(layer.name + suffix, shape, np.int8, inputs[0].scale, inputs[0].zero_point)
        return self.file_model.operator(operator, inputs, output, options)

    def _constant(self, name, values):
        return self.file_model.tensor(name, values.shape, values.dtype, data=values)

    def _axes(self):
        return self._constant("rows_and_columns", np.array([1, 2], np.int32))

    def _emit(self, pending, name, shape, scale, zero_point):
        """Writes an operator, given the range of its output."""
        output = self.file_model.tensor(name, shape, np.int8, scale, zero_point)
        inputs, options = list(pending.inputs), pending.options
        if pending.weights is not None:
            inputs += self._constants(pending, name)
        if pending.operator == "TRANSPOSE_CONV":
            images, kernel, bias = inputs
            inputs = [self._constant(f"{name}_shape", np.array(shape, np.int32)), kernel, images, bias]
        if pending.operator == "CONCATENATION":
            inputs = [self._requantized(part, f"{name}_{count}", output) for count, part in enumerate(inputs)]
        if pending.activation != "linear":
            options.fusedActivationFunction = ACTIVATIONS[pending.activation]
        return self.file_model.operator(pending.operator, inputs, output, options)

    def _requantized(self, part, name, like):
        if (part.scale, part.zero_point) == (like.scale, like.zero_point):
            return part
        output = self.file_model.tensor(name, part.shape, np.int8, like.scale, like.zero_point)
        return self.file_model.operator("QUANTIZE", [part], output, schema.QuantizeOptionsT())

    def _constants(self, pending, name):
        """Kernel and bias of a layer with weights."""
        scales, kernel, bias = pending.weights
        if pending.operator == "DEPTHWISE_CONV_2D":
            kernel, axis = kernel[np.newaxis], 3
        else:  # Output channels first.
            kernel, axis = np.moveaxis(kernel, -1, 0), 0
        bias_scales = np.float32(pending.inputs[0].scale) * scales
        return [
            self.file_model.tensor(f"{name}_kernel", kernel.shape, np.int8, scales, 0, axis=axis, data=kernel),
            self.file_model.tensor(f"{name}_bias", bias.shape, np.int32, bias_scales, 0, data=bias),
        ]


def _batch(value, layer):
    """Images in a layer's output: one, or the slices of a volume."""
    source = value.inputs[0] if isinstance(value, _Pending) else value
    if isinstance(layer, StackDepth):
        return source.shape[0] // layer.depth * layer.depth_out
    if isinstance(layer, Regroup):
        return int(np.prod(source.shape)) // int(np.prod(layer.target_shape))
    return source.shape[0]


def _strides_and_padding(layer):
    row, column = layer.strides
    padding = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}[layer.padding]
    return {"strideH": row, "strideW": column, "padding": padding}


def _window(layer):
    row, column = layer.dilation_rate
    return {"dilationHFactor": row, "dilationWFactor": column, **_strides_and_padding(layer)}


def _pool(layer):
    row, column = layer.pool_size
    return schema.Pool2DOptionsT(filterHeight=row, filterWidth=column, **_strides_and_padding(layer))
