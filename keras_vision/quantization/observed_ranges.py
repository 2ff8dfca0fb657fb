"""The ranges of a fake-quantized model: set from what the float model shows on some images, read, frozen."""

import keras
import numpy as np
from keras import layers

from keras_vision.keras_internals.graph import read_graph
from keras_vision.keras_internals.nodes import first_input, first_output, maker
from keras_vision.quantization.quantized_layers import FakeQuantize, quantizers, range_of
from keras_vision.quantization.ranges import logits_range
from keras_vision.quantization.rewriting import SAME_RANGE, with_fake_quantization


def set_ranges(quantized, model, images, *, logits=False, batch_size=32):
    """Sets every range of a fake-quantized model to what the float model shows on some images.

    Args:
        quantized: What `with_fake_quantization(model)` returned.
        model: The float model.
        images: Representative images, shape `(N, H, W, C)`.
        logits: Whether the model's logits themselves are wanted; else their range is the one that is best for the
            probabilities, and stays.
    """
    taps, names = _taps(model)
    last = maker(quantized.output)
    lows, highs, last_values = {}, {}, []
    for start in range(0, len(images), batch_size):
        found = taps.predict_on_batch(np.asarray(images[start : start + batch_size], "float32"))
        for name, values in zip(names, found, strict=True):
            lows[name] = min(lows.get(name, 0.0), float(np.min(values)))
            highs[name] = max(highs.get(name, 0.0), float(np.max(values)))
            if name == _tensor_name(last):
                last_values.append(np.asarray(values))
    for quantizer in quantizers(quantized):
        if quantizer.fixed_range is not None:
            continue
        low, high = lows[_tensor_name(quantizer)], highs[_tensor_name(quantizer)]
        if quantizer is last and not logits:
            low, high = logits_range(np.concatenate(last_values))
            quantizer.trainable = False
        quantizer.low.assign(low)
        quantizer.high.assign(high)


def float_tensors(model, images):
    """What a model without rounding has where its file has integers.

    Args:
        model: A float model, or a fake-quantized one, whose rounding is then left out.
        images: Shape `(N, H, W, C)`.

    Returns:
        `{name of the tensor: values, shape (N, ...)}`.
    """
    taps, names = _taps(model)
    found = taps.predict_on_batch(np.asarray(images, "float32"))
    return {name: np.asarray(values) for name, values in zip(names, found, strict=True)}


def _taps(model):
    """A model without rounding whose outputs are all tensors that are rounded elsewhere, and these tensors' names."""
    twin = _without_rounding(model) if quantizers(model) else with_fake_quantization(model, simulate=False)
    marks = quantizers(twin)
    # A layer's first call is the one that the file's tensor is named after; average pooling calls it again.
    taps = keras.Model(twin.input, [first_output(mark) for mark in marks])
    return taps, [_tensor_name(mark) for mark in marks]


def _without_rounding(quantized):
    def copied(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "simulate": False} if "simulate" in config else config)

    twin = keras.models.clone_model(quantized, clone_function=copied)
    twin.set_weights(quantized.get_weights())
    return twin


def _tensor_name(quantizer):
    return quantizer.name.removesuffix("_range")


def without_last_rounding(quantized):
    """The model up to the rounding of its logits: one that was cut off there has no gradient, and so no heatmap."""
    last = maker(quantized.output)
    if not isinstance(last, FakeQuantize):
        return quantized
    return keras.Model(quantized.input, first_input(last), name=quantized.name)


def freeze(quantized):
    """Stops the statistics of a fake-quantized model's normalizations and its ranges; its weights go on learning.

    Compile the model again afterwards.
    """
    for layer in quantized.layers:
        if isinstance(layer, (layers.BatchNormalization, FakeQuantize)):
            layer.trainable = False


def output_range(quantized):
    """Scale and zero point of a fake-quantized model's output."""
    return range_of(_last(read_graph(quantized), SAME_RANGE))


def _last(graph, passed):
    """The layer that made a model's output, with layers of some kinds passed over."""
    makers = {step.output: step for step in graph.steps}
    step = makers[graph.output]
    while isinstance(step.layer, passed):
        step = makers[step.inputs[0]]
    return step.layer
