"""Folds a fake-quantized model: normalizations into kernels, and kernels and biases into the integers of its file.

Reference: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_vision.keras_internals.graph import Graph, read_graph
from keras_vision.quantization.quantized_layers import WEIGHTED, FakeQuantize, range_of
from keras_vision.quantization.ranges import NARROW, weight_scales
from keras_vision.quantization.rewriting import normalization_parts


def fold(quantized: keras.Model) -> keras.Model:
    """The model that an integer file is written from: normalizations folded, integers in every layer with weights.

    It predicts what the file does and cannot be trained.

    Args:
        quantized: A model from `with_fake_quantization` whose ranges are set.

    Returns:
        A functional model.
    """
    graph = read_graph(quantized)
    normalization = normalizations(graph)
    images = keras.Input(graph.input_shape, name="images")
    tensors: dict[int, Any] = {0: images}
    scales, copies = {}, {}
    for step in graph.steps:
        layer, inputs = step.layer, [tensors[number] for number in step.inputs]
        if isinstance(layer, layers.InputLayer):
            continue
        if isinstance(layer, layers.BatchNormalization):
            output = inputs[0]
        elif isinstance(layer, WEIGHTED):
            output = _folded_layer(layer, normalization.get(step.output), scales[step.inputs[0]], inputs[0])
        else:
            if layer not in copies:
                copies[layer] = type(layer).from_config(layer.get_config())
            output = copies[layer](inputs[0] if len(inputs) == 1 else inputs, **step.arguments)
            copies[layer].set_weights(layer.get_weights())
        tensors[step.output] = output
        if isinstance(layer, FakeQuantize):
            scales[step.output] = float(range_of(layer)[0])
        elif step.inputs and step.inputs[0] in scales:
            scales[step.output] = scales[step.inputs[0]]
    return keras.Model(images, tensors[graph.output], name=f"{quantized.name}_folded")


def normalizations(graph: Graph) -> dict[int, layers.BatchNormalization]:
    """The normalization of each layer that has one after it, by the number of the layer's output."""
    return {step.inputs[0]: step.layer for step in graph.steps if isinstance(step.layer, layers.BatchNormalization)}


def folded_weights(layer: Any, normalization: Any) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a layer and the normalization after it, or None; float64, output channels last."""
    kernel = np.asarray(ops.convert_to_numpy(layer.flat_kernel()), np.float64)
    bias = np.asarray(ops.convert_to_numpy(layer.bias), np.float64) if layer.use_bias else np.zeros(kernel.shape[-1])
    if normalization is not None:
        mean, factor, offset = normalization_parts(normalization)
        kernel, bias = kernel * factor, (bias - mean) * factor + offset
    return kernel, bias


def _folded_layer(layer, normalization, input_scale, tensor):
    kernel, bias = folded_weights(layer, normalization)
    scales = weight_scales(kernel, bias, input_scale)
    copy = type(layer).from_config({**layer.get_config(), "use_bias": True, "input_scale": input_scale})
    output = copy(tensor)
    integers = np.clip(np.round(kernel / scales), -NARROW, NARROW).astype("float32")
    copy.kernel.assign(copy.unflattened(ops.convert_to_tensor(integers)))
    copy.bias.assign(np.round(bias / (np.float32(input_scale) * scales)))
    copy.scales.assign(scales)
    return output
