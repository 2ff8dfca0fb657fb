"""The ranges of a fake-quantized model: set from the float model's tensors on some images, read, and frozen."""

from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.keras_internals.graph import read_graph
from keras_vision.keras_internals.nodes import first_output, maker
from keras_vision.quantization.checking import check_copy
from keras_vision.quantization.quantized_layers import FakeQuantize, quantizers, range_of
from keras_vision.quantization.ranges import logits_range
from keras_vision.quantization.rewriting import SAME_RANGE, with_fake_quantization
from keras_vision.recipe import InputError


def set_ranges(
    quantized: keras.Model, model: keras.Model, images: Any, *, logits: bool = False, batch_size: int = 32
) -> None:
    """Sets every range of a fake-quantized model to that of the float model's values on some images.

    Args:
        quantized: The result of `with_fake_quantization(model)`.
        model: The float model.
        images: Representative images, shape `(N, H, W, C)`.
        logits: Whether the file will end in logits, so that their whole range matters; else it is the one that is best
            for the probabilities, and fixed.

    Raises:
        InputError: If the copy without rounding does not compute what the float model does, or values are not finite.
    """
    taps, names = _taps(model)
    last = maker(quantized.output)
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    last_values = []
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size], "float32")
        *tensors, output = taps.predict_on_batch(batch)
        if start == 0:
            check_copy(model, batch, output)
        for name, values in zip(names, tensors, strict=True):
            if not np.isfinite(values).all():
                raise InputError(f"The layer {name!r} gives values that are not finite on the representative images.")
            lows[name] = min(lows.get(name, 0.0), float(np.min(values)))
            highs[name] = max(highs.get(name, 0.0), float(np.max(values)))
            if name == _tensor_name(last):
                last_values.append(np.asarray(values))
    for quantizer in quantizers(quantized):
        if quantizer.fixed_range is not None:
            continue
        low, high = lows[_tensor_name(quantizer)], highs[_tensor_name(quantizer)]
        if low == high:  # Zero on all images, such as after ReLU: any range has a step for it.
            high = 1.0
        elif quantizer is last and not logits:
            low, high = logits_range(np.concatenate(last_values))
            quantizer.trainable = False
        quantizer.low.assign(low)
        quantizer.high.assign(high)


def float_tensors(model: keras.Model, images: Any) -> dict[str, np.ndarray]:
    """The float values, without any rounding, of every tensor that is rounded in a model's file.

    Args:
        model: A float model, or a fake-quantized one, whose rounding is then switched off.
        images: Shape `(N, H, W, C)`.

    Returns:
        `{name of the tensor: values, shape (N, ...)}`.
    """
    taps, names = _taps(model)
    *tensors, _ = taps.predict_on_batch(np.asarray(images, "float32"))
    return {name: np.asarray(values) for name, values in zip(names, tensors, strict=True)}


def _taps(model):
    """A model without rounding that outputs every tensor that is rounded in the file, then its output; their names."""
    unrounded = _without_rounding(model) if quantizers(model) else with_fake_quantization(model, simulate=False)
    places = quantizers(unrounded)
    # A layer's first call is the one that the file's tensor is named after; average pooling calls it again.
    taps = keras.Model(unrounded.input, [*(first_output(layer) for layer in places), unrounded.output])
    return taps, [_tensor_name(layer) for layer in places]


def _without_rounding(quantized):
    def copied(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "simulate": False} if "simulate" in config else config)

    unrounded = keras.models.clone_model(quantized, clone_function=copied)
    unrounded.set_weights(quantized.get_weights())
    return unrounded


def _tensor_name(quantizer):
    return quantizer.name.removesuffix("_range")


def freeze(quantized: keras.Model) -> None:
    """Freezes the ranges and the BatchNormalization layers of a fake-quantized model; other weights stay trainable.

    Compile the model again afterwards.
    """
    for layer in quantized.layers:
        if isinstance(layer, (layers.BatchNormalization, FakeQuantize)):
            layer.trainable = False


def output_range(quantized: keras.Model) -> tuple[np.float32, int]:
    """Scale and zero point of a fake-quantized model's output."""
    graph = read_graph(quantized)
    makers = {step.output: step for step in graph.steps}
    step = makers[graph.output]
    while isinstance(step.layer, SAME_RANGE):
        step = makers[step.inputs[0]]
    return range_of(step.layer)


def taken_range(quantized: keras.Model) -> tuple[float, float]:
    """What a fake-quantized model takes for black and white."""
    for step in read_graph(quantized).steps:
        if isinstance(step.layer, layers.Rescaling):
            break  # Pixels, by their first layer.
        if isinstance(step.layer, FakeQuantize) and step.layer.fixed_range is not None:
            low, high = step.layer.fixed_range
            return low, high
    return 0.0, 255.0
