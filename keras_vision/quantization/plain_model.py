"""Anybody's Keras model as a model of few kinds of layers, each called once, under names of their own.

Nested models are opened, shared layers become one layer for each call, operators and functions of `keras.ops` become
layers, activations that are arguments become layers of their own, and layers that do nothing in inference are left out.
A layer of an unknown class is opened, too: its `call` is followed symbolically. `rewriting` reads the result.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.keras_internals.graph import Place, Step, is_graph, read_graph, read_steps
from keras_vision.keras_internals.pixels import scales_pixels
from keras_vision.quantization.plain_calls import Call, array
from keras_vision.quantization.plain_layers import LAYERS
from keras_vision.quantization.plain_operations import OPERATIONS, Operations
from keras_vision.recipe import InputError, first_line

# Tried on values of these sizes, a layer that does nothing in inference returns what it is given.
SIZES = (1e-3, 1.0, 300.0, 1e6)


def with_size(model: keras.Model, image_shape: Sequence[int]) -> keras.Model:
    """A model for images of one size, with the same weights; a functional model that has one size is returned.

    Args:
        model: Functional, Sequential or subclassed.
        image_shape: Shape of one image.

    Raises:
        InputError: If the model does not take such images.
    """
    taken = tuple(model.input_shape[1:]) if is_graph(model) and len(model.inputs) == 1 else None
    if is_graph(model) and (taken is None or None not in taken):
        return model
    if taken is not None and (
        len(taken) != len(image_shape)
        or any(side not in (None, given) for side, given in zip(taken, image_shape, strict=True))
    ):
        raise InputError(f"The model {model.name!r} takes images of shape {taken}. Received: {tuple(image_shape)}.")
    images = keras.Input(tuple(image_shape), name="images")
    try:
        return keras.Model(images, model(images, training=False), name=model.name)
    except Exception as error:  # Whatever somebody's own `call` raises.
        raise InputError(
            f"The model {model.name!r} cannot be applied to images of shape {tuple(image_shape)}: {first_line(error)}"
        ) from error


def takes_pixels(model: keras.Model) -> bool:
    """Whether a model scales pixels from 0 to 255 by itself, perhaps after layers that do nothing in inference."""
    if scales_pixels(model):
        return True
    try:
        return scales_pixels(plain_model(model))
    except Exception:  # A layer without an 8-bit operator, or one of a damaged file, whose numbers may be none.
        return False


def plain_model(model: keras.Model, *, integers: bool = True) -> keras.Model:
    """The same function of images by plain layers with copies of the weights.

    Args:
        model: A functional or built Sequential model with one image input and one output; it is not changed.
        integers: Whether each plain layer shall have an operator of integers; else a LayerNormalization stays one.

    Raises:
        InputError: If a layer cannot be quantized; the message names it.
    """
    return traced_plain_model(model, integers=integers)[0]


def traced_plain_model(
    model: keras.Model, *, integers: bool = True
) -> tuple[keras.Model, list[tuple[int, str, keras.KerasTensor]]]:
    """The plain model, and the number, the path and the new output tensor of each step of `read_graph(model)`."""
    graph = read_graph(model)
    if None in graph.input_shape:
        raise InputError(
            f"The model {model.name!r} takes images of any size, {graph.input_shape}. Pass images of the size that the "
            "file shall take, or build the model with one size."
        )
    images = keras.Input(graph.input_shape, name="images")
    plain = _Plain(integers=integers)
    output = plain.run(graph.steps, {0: images}, graph.output, "")
    if output is images:
        raise InputError(f"The model {model.name!r} has no layer that computes anything.")
    return keras.Model(images, output, name=model.name), plain.made


class _Plain(Operations):
    """Follows the steps of a model and of what is inside of its layers."""

    def run(self, steps: Sequence[Step], values: dict[int, Any], output: int, around: str) -> Any:
        """The output tensor of some steps; `around` is the path of the layer that they are inside of."""

        def tensor(part):
            return values[part.number] if isinstance(part, Place) else part

        for step in steps:
            if isinstance(step.layer, layers.InputLayer):
                continue
            call: Any = keras.tree.map_structure(tensor, (step.positional, step.arguments))
            path = f"{around}/{step.path}" if around else step.path
            values[step.output] = self.take(Call(step, path, *call))
            if not around:
                self.made.append((step.output, path, values[step.output]))
        return values[output]

    def take(self, call: Call) -> Any:
        """The output of one step."""
        layer = call.layer
        if getattr(layer, "data_format", None) == "channels_first":
            raise call.refusal(" with channels first")
        for tensor in call.tensors:
            if None in tensor.shape[1:]:
                raise call.refusal(f" with tensors of shape {tuple(tensor.shape[1:])}")
        handler = LAYERS.get(type(layer)) if isinstance(layer, keras.Layer) else OPERATIONS.get(type(layer).__name__)
        if isinstance(layer, keras.Layer):
            if handler is None and self._idle(call):
                return call.tensors[0]
        elif not type(layer).__module__.startswith("keras."):
            handler = None
        made = self.open(call) if handler is None else handler(self, call)
        # Keras loses sides of some layers, such as of attention.
        if len(made.shape) != len(call.shape) + 1 or any(
            side not in (None, found) for side, found in zip(call.shape, made.shape[1:], strict=True)
        ):
            raise call.refusal(f" with outputs of shape {call.shape}")
        return made

    def _idle(self, call):
        """Whether a layer returns what it is given, in inference."""
        layer, first = call.layer, call.tensors[0]
        kernels = any(len(variable.shape) > 0 for variable in layer.trainable_variables)
        if len(call.tensors) != 1 or tuple(first.shape[1:]) != call.shape or kernels:
            return False
        random = np.random.default_rng(0)
        for size in SIZES:
            values = (size * random.standard_normal((2, *call.shape))).astype("float32")
            try:
                made = layer(keras.ops.convert_to_tensor(values), **call.inference)
                same = np.array_equal(array(made), values)
            except Exception:  # Whatever a layer raises: it does more than nothing.
                return False
            if not same:
                return False
        return True

    def open(self, call: Call) -> Any:
        """The output of a layer or function of an unknown class, by what its `call` computes."""
        inputs = [keras.Input(tensor.shape[1:]) for tensor in call.tensors]
        replaced = dict(zip(map(id, call.tensors), inputs, strict=True))
        arguments: Any = keras.tree.map_structure(
            lambda part: replaced.get(id(part), part), (call.positional, call.named)
        )
        positional, named = arguments
        try:
            output = call.layer.call(*positional, **{**named, **call.inference})
            steps, end = read_steps(inputs, output)
        except Exception as error:  # Whatever a layer of an unknown class raises.
            raise call.refusal() from error
        values = dict(enumerate(call.tensors))
        if any(step.layer is call.layer for step in steps):
            raise call.refusal()
        try:
            return self.run(steps, values, end, call.path)
        except InputError as error:
            own = type(call.layer).__module__.startswith("keras.") and not isinstance(call.layer, layers.Lambda)
            if own:
                raise call.refusal() from error  # Its parts say nothing to a user.
            raise
