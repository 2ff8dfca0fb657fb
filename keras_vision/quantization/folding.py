"""From a fake-quantized model to the whole numbers that its file has.

Reference: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_vision.keras_internals.graph import read_graph
from keras_vision.quantization.quantized_layers import WEIGHTED, FakeQuantize, range_of
from keras_vision.quantization.ranges import NARROW, weight_scales
from keras_vision.quantization.rewriting import normalization_parts


def fold(quantized):
    """The fake-quantized model that its file is written from: normalizations folded, whole numbers in every layer.

    It predicts what the file does and cannot be trained.

    Args:
        quantized: A model from `with_fake_quantization`, calibrated or trained.

    Returns:
        A functional `keras.Model`.

    Reference:
        Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2.
    """
    graph = read_graph(quantized)
    normalization = {
        step.inputs[0]: step.layer for step in graph.steps if isinstance(step.layer, layers.BatchNormalization)
    }
    images = keras.Input(graph.input_shape, name="images")
    tensors, scales, copies = {0: images}, {}, {}
    for step in graph.steps:
        layer, given = step.layer, [tensors[number] for number in step.inputs]
        if isinstance(layer, layers.InputLayer):
            continue
        if isinstance(layer, layers.BatchNormalization):
            made = given[0]
        elif isinstance(layer, WEIGHTED):
            made = _folded_layer(layer, normalization.get(step.output), scales[step.inputs[0]], given[0])
        else:
            if layer not in copies:
                copies[layer] = type(layer).from_config(layer.get_config())
            made = copies[layer](given[0] if len(given) == 1 else given, **step.arguments)
            copies[layer].set_weights(layer.get_weights())
        tensors[step.output] = made
        if isinstance(layer, FakeQuantize):
            scales[step.output] = float(range_of(layer)[0])
        elif step.inputs and step.inputs[0] in scales:
            scales[step.output] = scales[step.inputs[0]]
    return keras.Model(images, tensors[graph.output], name=f"{quantized.name}_folded")


def _folded_layer(layer, normalization, input_scale, tensor):
    kernel = np.float64(ops.convert_to_numpy(layer.flat_kernel()))
    bias = np.float64(ops.convert_to_numpy(layer.bias)) if layer.use_bias else np.zeros(kernel.shape[-1])
    if normalization is not None:
        mean, factor, offset = normalization_parts(normalization)
        kernel, bias = kernel * factor, (bias - mean) * factor + offset
    scales = weight_scales(kernel, bias, input_scale)
    copy = type(layer).from_config({**layer.get_config(), "use_bias": True, "input_scale": input_scale})
    made = copy(tensor)
    copy.kernel.assign(np.clip(np.round(kernel / scales), -NARROW, NARROW).reshape(copy.kernel.shape))
    copy.bias.assign(np.round(bias / (np.float32(input_scale) * scales)))
    copy.scales.assign(scales)
    return made
