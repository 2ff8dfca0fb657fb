"""From a rewritten model to the operators of a .tflite file; `integer` and `float_file` say what is stored."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from keras_vision.keras_internals.graph import Step, read_graph
from keras_vision.quantization.flatbuffer import FlatModel, Tensor
from keras_vision.quantization.lowering import Regroup, StackDepth
from keras_vision.quantization.plain_calls import MatMul
from keras_vision.quantization.plain_layers import DROPOUT
from keras_vision.quantization.quantized_layers import (
    FakeQuantize,
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
)
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


class Pending:
    """An operator whose output range is not known yet, into which an activation may still be fused.

    Attributes:
        operator: Name of the builtin operator.
        inputs: Tensors.
        options: The schema's options.
        weights: What `weights_of` returns; None without weights.
        activation: Name of the fused activation.
    """

    def __init__(self, operator: str, inputs: list, options: Any = None, weights: Any = None):
        self.operator, self.inputs, self.options, self.weights = operator, inputs, options, weights
        self.activation: str = "linear"


class Writer:
    """Follows a model's steps; what is stored of ranges and weights is up to its subclasses.

    Attributes:
        graph: The model's steps.
        file_model: The file under construction.
        values: Tensor or Pending by number.
    """

    def __init__(self, rewritten: keras.Model, description: str, versions: Mapping[str, int]):
        self.graph = read_graph(rewritten)
        self.file_model = FlatModel(description, versions)
        self.values: dict[int, Any] = {}

    def file(self) -> bytes:
        """The file's bytes."""
        steps = [step for step in self.graph.steps if not isinstance(step.layer, layers.InputLayer)]
        first = self.start(steps)
        for step in steps:
            if step.output not in self.values:
                self.values[step.output] = self.take(step)
        end = self.end(self.values[self.graph.output])
        return self.file_model.finish(first, end)

    def start(self, steps: list[Step]) -> Tensor:
        """The file's input; `values` gets what the other steps read."""
        raise NotImplementedError

    def end(self, output: Tensor) -> Tensor:
        """The file's output."""
        raise NotImplementedError

    def probabilities(self, logits: Tensor, scores: Tensor) -> Tensor:
        """Adds the operator that makes probabilities of logits."""
        # A single logit is that of the second of two classes.
        several = logits.shape[-1] > 1
        operator, options = ("SOFTMAX", schema.SoftmaxOptionsT(beta=1.0)) if several else ("LOGISTIC", None)
        return self.file_model.operator(operator, [logits], scores, options)

    def range_of(self, mark: FakeQuantize) -> tuple[Any, Any]:
        """Scale and zero point of a tensor; two None for floats."""
        raise NotImplementedError

    def weights_of(self, step: Step) -> Any:
        """What `constants` needs of a layer with weights."""
        raise NotImplementedError

    def constants(self, pending: Pending, name: str) -> list[Tensor]:
        """Kernel and bias of an operator with weights."""
        raise NotImplementedError

    def joined(self, part: Tensor, name: str, output: Tensor) -> Tensor:
        """An input of a concatenation, in the range of its output."""
        raise NotImplementedError

    def take(self, step: Step) -> Any:
        """The output of a step: a tensor, or an operator without one yet."""
        layer, values = step.layer, [self.values[number] for number in step.inputs]
        value = values[0]
        shape = (_batch(value, layer), *step.shape)
        if isinstance(layer, FakeQuantize):
            if not isinstance(value, Pending):
                return value
            return self._emit(value, layer.name.removesuffix("_range"), shape, *self.range_of(layer))
        if isinstance(layer, QuantizedConv2D):
            options = schema.Conv2DOptionsT(**_window(layer))
            return Pending("CONV_2D", [value], options, self.weights_of(step))
        if isinstance(layer, QuantizedConv2DTranspose):
            options = schema.TransposeConvOptionsT(**_strides_and_padding(layer))
            return Pending("TRANSPOSE_CONV", [value], options, self.weights_of(step))
        if isinstance(layer, QuantizedDepthwiseConv2D):
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=layer.depth_multiplier, **_window(layer))
            return Pending("DEPTHWISE_CONV_2D", [value], options, self.weights_of(step))
        if isinstance(layer, QuantizedDense):
            options = schema.FullyConnectedOptionsT()
            return Pending("FULLY_CONNECTED", [value], options, self.weights_of(step))
        if isinstance(layer, layers.Add):
            return Pending("ADD", values, schema.AddOptionsT())
        if isinstance(layer, layers.Subtract):
            return Pending("SUB", values, schema.SubOptionsT())
        if isinstance(layer, layers.Multiply):
            return Pending("MUL", values, schema.MulOptionsT())
        if isinstance(layer, layers.Concatenate):
            axis = layer.axis % len(shape)
            return Pending("CONCATENATION", values, schema.ConcatenationOptionsT(axis=axis))
        if isinstance(layer, MatMul):
            return Pending("BATCH_MATMUL", values, schema.BatchMatMulOptionsT())
        if isinstance(layer, layers.UnitNormalization):
            return Pending("L2_NORMALIZATION", [value], schema.L2NormOptionsT())
        if isinstance(layer, layers.GlobalAveragePooling2D):
            return Pending("MEAN", [value, self._axes()], schema.ReducerOptionsT(keepDims=layer.keepdims))
        if isinstance(layer, layers.AveragePooling2D):
            return self._same_range("AVERAGE_POOL_2D", layer, [value], shape, _pool(layer))
        if isinstance(layer, layers.Resizing):
            size = self.constant(f"{layer.name}_size", np.array([layer.height, layer.width], np.int32))
            options = schema.ResizeBilinearOptionsT(halfPixelCenters=True)
            return self._same_range("RESIZE_BILINEAR", layer, [value, size], shape, options)
        if isinstance(layer, SAME_RANGE):
            return self._moved(layer, value, shape)
        return self._activation(layer, value)

    def _activation(self, layer, value):
        name = activation_of(layer)
        if isinstance(value, Pending):
            value.activation = name
            return value
        if name == "softmax":
            return Pending("SOFTMAX", [value], schema.SoftmaxOptionsT(beta=1.0))
        options = {
            "leaky_relu": lambda: schema.LeakyReluOptionsT(alpha=float(layer.negative_slope)),
            "gelu": lambda: schema.GeluOptionsT(approximate=False),
            "gelu_tanh": lambda: schema.GeluOptionsT(approximate=True),
            "hard_silu": schema.HardSwishOptionsT,
        }.get(name)
        return Pending(UNARY[name], [value], options() if options else None)

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
            constant = self.constant(f"{layer.name}_paddings", paddings)
            return self._same_range("PAD", layer, [value, constant], shape, schema.PadOptionsT())
        if isinstance(layer, layers.Cropping2D):
            (top, _), (left, _) = layer.cropping
            parts = {"begin": [0, top, left, 0], "size": shape}
            constants = [
                self.constant(f"{layer.name}_{name}", np.array(part, np.int32)) for name, part in parts.items()
            ]
            return self._same_range("SLICE", layer, [value, *constants], shape, schema.SliceOptionsT())
        if isinstance(layer, layers.UpSampling2D):
            size = self.constant(f"{layer.name}_size", np.array(shape[1:3], np.int32))
            options = schema.ResizeNearestNeighborOptionsT()
            return self._same_range("RESIZE_NEAREST_NEIGHBOR", layer, [value, size], shape, options)
        if isinstance(layer, layers.Permute):
            order = self.constant(f"{layer.name}_order", np.array([0, *layer.dims], np.int32))
            return self._same_range("TRANSPOSE", layer, [value, order], shape, schema.TransposeOptionsT())
        if isinstance(layer, StackDepth):
            return self._stacked(layer, value, shape)
        return self._reshaped(value, layer.name, shape)

    def _reshaped(self, value, name, shape):
        if value.shape == shape:
            return value
        output = self.file_model.tensor(name, shape, value.dtype, value.scale, value.zero_point)
        target = self.constant(f"{name}_shape", np.array(shape, np.int32))
        return self.file_model.operator(
            "RESHAPE", [value, target], output, schema.ReshapeOptionsT(newShape=list(shape))
        )

    def _stacked(self, layer, value, shape):
        """Pads the batch of slices, picks the slices of each position of a kernel's depth, and joins their channels."""
        if any(layer.padding):
            before = value.shape
            paddings = self.constant(f"{layer.name}_paddings", np.array([layer.padding, *[(0, 0)] * 3], np.int32))
            padded = (before[0] + sum(layer.padding), *before[1:])
            value = self._same_range("PAD", layer, [value, paddings], padded, schema.PadOptionsT(), "_padded")
        parts = []
        for place, (first, end) in enumerate(layer.starts_and_ends()):
            starts, ends = [first, 0, 0, 0], [end, *value.shape[1:]]
            steps = [layer.strides, 1, 1, 1]
            numbers = [
                self.constant(f"{layer.name}_{place}_{name}", np.array(values, np.int32))
                for name, values in (("begin", starts), ("end", ends), ("strides", steps))
            ]
            size = (shape[0], *value.shape[1:])
            options = schema.StridedSliceOptionsT()
            parts.append(self._same_range("STRIDED_SLICE", layer, [value, *numbers], size, options, f"_{place}"))
        if len(parts) == 1:
            return parts[0]
        return self._same_range("CONCATENATION", layer, parts, shape, schema.ConcatenationOptionsT(axis=3))

    def _same_range(self, operator, layer, inputs, shape, options, suffix=""):
        output = self.file_model.tensor(
            layer.name + suffix, shape, inputs[0].dtype, inputs[0].scale, inputs[0].zero_point
        )
        return self.file_model.operator(operator, inputs, output, options)

    def constant(self, name: str, values: np.ndarray) -> Tensor:
        """Adds numbers of their own type."""
        return self.file_model.tensor(name, values.shape, values.dtype, data=values)

    def _axes(self):
        return self.constant("rows_and_columns", np.array([1, 2], np.int32))

    def _emit(self, pending, name, shape, scale, zero_point):
        """Writes an operator, given the range of its output."""
        output = self.file_model.tensor(name, shape, pending.inputs[0].dtype, scale, zero_point)
        inputs, options = list(pending.inputs), pending.options
        if pending.weights is not None:
            inputs += self.constants(pending, name)
        if pending.operator == "TRANSPOSE_CONV":
            images, kernel, bias = inputs
            inputs = [self.constant(f"{name}_shape", np.array(shape, np.int32)), kernel, images, bias]
        if pending.operator == "CONCATENATION":
            inputs = [self.joined(part, f"{name}_{count}", output) for count, part in enumerate(inputs)]
        if pending.activation != "linear":
            options.fusedActivationFunction = ACTIVATIONS[pending.activation]
        return self.file_model.operator(pending.operator, inputs, output, options)


def as_stored(operator: str, kernel: np.ndarray) -> tuple[np.ndarray, int]:
    """A kernel as an operator reads it, and the axis of its output channels, which were last."""
    if operator == "DEPTHWISE_CONV_2D":
        return kernel[np.newaxis], 3
    return np.moveaxis(kernel, -1, 0), 0


def _batch(value, layer):
    """Images in a layer's output: one, or the slices of a volume."""
    source = value.inputs[0] if isinstance(value, Pending) else value
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
