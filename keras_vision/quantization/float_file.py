"""Files of float operators, with float or 8-bit weights, written operator by operator: on every backend, in seconds.

What `plain_model` cannot express is left to TensorFlow's converter, `tflite`.
"""

import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from keras_vision.quantization.flatbuffer import DYNAMIC_VERSIONS, FLOAT_VERSIONS
from keras_vision.quantization.folding import folded_weights, normalizations
from keras_vision.quantization.lowering import lower_3d
from keras_vision.quantization.ranges import NARROW
from keras_vision.quantization.rewriting import activation_of, with_fake_quantization
from keras_vision.quantization.writer import Pending, Writer, as_stored

KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")  # Those that LiteRT computes with from 8 bits.
# Smaller kernels stay floats, as in TensorFlow's converter: they cost little, and rounding them costs accuracy.
DYNAMIC_SIZE = 1024


def write_float_file(model: keras.Model, *, dynamic: bool = False, adds_scores: bool = False) -> bytes:
    """A float32 or dynamic-range file of a model.

    Args:
        model: From images to logits or probabilities, of layers that `plain_model` knows.
        dynamic: Whether kernels of at least 1,024 numbers are stored in 8 bits, symmetric, with a scale for each output
            channel; those of transposed convolutions stay floats.
        adds_scores: Whether the file ends in a softmax, or a sigmoid for one output, that the model does not have.

    Returns:
        The file's bytes: batch size 1, only built-in operators.

    Raises:
        InputError: If the model has a layer that cannot be expressed.
    """
    if len(model.input_shape) == 5:
        model = lower_3d(model)  # Faster than operators on volumes, which phones' accelerators lack.
    rewritten = with_fake_quantization(model, simulate=False, integers=False)
    return _Writer(rewritten, dynamic, adds_scores, model.name).file()


class _Writer(Writer):
    """Stores floats."""

    def __init__(self, rewritten, dynamic, adds_scores, description):
        super().__init__(rewritten, description, DYNAMIC_VERSIONS if dynamic else FLOAT_VERSIONS)
        self.dynamic, self.adds_scores = dynamic, adds_scores
        self.normalizations = normalizations(self.graph)

    def start(self, steps):
        images = self.file_model.tensor("images", (1, *self.graph.input_shape), np.float32)
        self.values[0] = images
        return images

    def end(self, output):
        if not self.adds_scores:
            return output
        return self.probabilities(output, self.file_model.tensor("scores", output.shape, np.float32))

    def take(self, step):
        layer, value = step.layer, self.values[step.inputs[0]]
        if isinstance(layer, layers.BatchNormalization):
            return value  # It is in the kernel before it.
        if isinstance(layer, layers.Rescaling):
            scaled = self._with_constant("MUL", value, layer.scale, f"{layer.name}_scale", schema.MulOptionsT())
            return self._with_constant("ADD", scaled, layer.offset, f"{layer.name}_offset", schema.AddOptionsT())
        if isinstance(layer, layers.Activation) and activation_of(layer) == "silu":
            # LiteRT has no operator for silu: values times their sigmoid.
            gate = self.file_model.tensor(f"{layer.name}_gate", value.shape, np.float32)
            return Pending("MUL", [value, self.file_model.operator("LOGISTIC", [value], gate)], schema.MulOptionsT())
        if isinstance(layer, layers.LayerNormalization):
            return self._layer_normalization(layer, value)
        return super().take(step)

    def _layer_normalization(self, layer, value):
        """By the operators of its definition."""
        whole, one = value.shape, (*value.shape[:-1], 1)

        def made(operator, inputs, ending, shape, options=None):
            output = self.file_model.tensor(f"{layer.name}_{ending}", shape, np.float32)
            return self.file_model.operator(operator, inputs, output, options)

        def constant(ending, number):
            return self.constant(f"{layer.name}_{ending}", np.asarray(number, np.float32))

        axis = self.constant(f"{layer.name}_axis", np.array([len(whole) - 1], np.int32))
        mean = made("MEAN", [value, axis], "mean", one, schema.ReducerOptionsT(keepDims=True))
        centred = made("SUB", [value, mean], "centred", whole, schema.SubOptionsT())
        squares = made("MUL", [centred, centred], "squares", whole, schema.MulOptionsT())
        variance = made("MEAN", [squares, axis], "variance", one, schema.ReducerOptionsT(keepDims=True))
        shifted = made("ADD", [variance, constant("epsilon", layer.epsilon)], "shifted", one, schema.AddOptionsT())
        factor = made("RSQRT", [shifted], "factor", one)
        unit = made("MUL", [centred, factor], "unit", whole, schema.MulOptionsT())
        gamma = keras.ops.convert_to_numpy(layer.gamma) if layer.scale else 1.0
        scaled = made("MUL", [unit, constant("gamma", gamma)], "scaled", whole, schema.MulOptionsT())
        beta = keras.ops.convert_to_numpy(layer.beta) if layer.center else 0.0
        return Pending("ADD", [scaled, constant("beta", beta)], schema.AddOptionsT())

    def _with_constant(self, operator, value, number, name, options):
        constant = np.asarray(number, np.float32)
        output = self.file_model.tensor(name.rpartition("_")[0] + f"_{operator.lower()}", value.shape, np.float32)
        return self.file_model.operator(operator, [value, self.constant(name, constant)], output, options)

    def range_of(self, mark):
        return None, None

    def weights_of(self, step):
        kernel, bias = folded_weights(step.layer, self.normalizations.get(step.output))
        return kernel.astype(np.float32), bias.astype(np.float32)

    def constants(self, pending, name):
        kernel, bias = pending.weights
        scales = None
        if self.dynamic and pending.operator in KERNELS and kernel.size >= DYNAMIC_SIZE:
            largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
            scales = np.maximum(largest, 1e-8) / np.float32(NARROW)
            kernel = np.clip(np.round(kernel / scales), -NARROW, NARROW).astype(np.int8)
            if pending.operator == "FULLY_CONNECTED":
                pending.options.asymmetricQuantizeInputs = True
        kernel, axis = as_stored(pending.operator, kernel)
        zero = None if scales is None else 0
        stored = self.file_model.tensor(
            f"{name}_kernel", kernel.shape, kernel.dtype, scales, zero, axis=axis, data=kernel
        )
        return [stored, self.constant(f"{name}_bias", bias)]

    def joined(self, part, name, output):
        return part
