"""From a fake-quantized model to its full-integer file, with the model's own scales and zero points.

The file is written operator by operator instead of through TensorFlow's converter, so that it computes exactly what was
simulated, on every backend and without TensorFlow.
"""

import collections
from dataclasses import dataclass

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from keras_vision.keras_internals.graph import scoring_step
from keras_vision.quantization.flatbuffer import INTEGER_VERSIONS, Tensor
from keras_vision.quantization.folding import fold
from keras_vision.quantization.quantized_layers import range_of, stored_weights
from keras_vision.quantization.ranges import SOFTMAX_RANGE, parameters
from keras_vision.quantization.writer import Pending, Writer, as_stored


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


class _Writer(Writer):
    """Stores integers."""

    def __init__(self, folded, io, logits, description):
        super().__init__(folded, description, INTEGER_VERSIONS)
        self.io, self.logits = io, logits

    def range_of(self, mark):
        return range_of(mark)

    def weights_of(self, step):
        return stored_weights(step.layer)

    def start(self, steps):
        """The pixels as int8."""
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
        pending = Pending("DEPTHWISE_CONV_2D", [self._reshaped(pixels, "images_slices", slices)], options, weights)
        rescaled = self._emit(pending, "rescaled", slices, scale, zero_point)
        return images, self._reshaped(rescaled, "rescaled_volume", shape)

    def end(self, output):
        name = "scores"
        if not self.logits and scoring_step(self.graph) is None:
            scale, zero_point = parameters(*SOFTMAX_RANGE)
            scores = self.file_model.tensor(f"{name}_int8", output.shape, np.int8, scale, zero_point)
            output = self.probabilities(output, scores)
        if self.io == "int8":
            return output
        if self.io == "float32":
            end = self.file_model.tensor(name, output.shape, np.float32)
            return self.file_model.operator("DEQUANTIZE", [output], end, schema.DequantizeOptionsT())
        end = self.file_model.tensor(name, output.shape, np.uint8, output.scale, output.zero_point + 128)
        return self.file_model.operator("QUANTIZE", [output], end, schema.QuantizeOptionsT())

    def joined(self, part, name, like):
        if (part.scale, part.zero_point) == (like.scale, like.zero_point):
            return part
        output = self.file_model.tensor(name, part.shape, np.int8, like.scale, like.zero_point)
        return self.file_model.operator("QUANTIZE", [part], output, schema.QuantizeOptionsT())

    def constants(self, pending, name):
        """Kernel and bias of a layer with weights."""
        scales, kernel, bias = pending.weights
        kernel, axis = as_stored(pending.operator, kernel)
        bias_scales = np.float32(pending.inputs[0].scale) * scales
        return [
            self.file_model.tensor(f"{name}_kernel", kernel.shape, np.int8, scales, 0, axis=axis, data=kernel),
            self.file_model.tensor(f"{name}_bias", bias.shape, np.int32, bias_scales, 0, data=bias),
        ]
