"""Both ends of a network: scaling and resizing of images before the backbone, and the head after it."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_vision.recipe import ModelSpec


def resized_shape(spec: ModelSpec, image_shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of the backbone's input: `(input_size, input_size, C)` if the spec has an input size."""
    if spec.input_size and len(image_shape) == 3:  # Volumes keep their shape, and are refused later.
        return (spec.input_size, spec.input_size, image_shape[-1])
    return tuple(image_shape)


def scaled(images: Any, scale: float | list[float], offset: float | list[float] = 0.0) -> Any:
    """Pixels times `scale` plus `offset`.

    Always in float32: half precision would round the scale and move white by a gray level.
    """
    per_channel: Any = offset  # Keras's annotation has a number only.
    return layers.Rescaling(scale, per_channel, dtype="float32", name="rescaling")(images)


def resized(x: Any, spec: ModelSpec) -> Any:
    """Images at the spec's input size; unchanged if they already have it.

    It follows the scaling of pixels, so that an integer file rounds pixels once.
    """
    if tuple(x.shape[1:3]) == resized_shape(spec, x.shape[1:])[:2]:
        return x
    return layers.Resizing(spec.input_size, spec.input_size, name="resizing")(x)


def with_scores(model: keras.Model) -> keras.Model:
    """The same network with a sigmoid after its logits: a score for each of several labels.

    So its file says by itself that labels do not exclude each other.
    """
    scores = layers.Activation("sigmoid", dtype="float32", name="scores")(model.output)
    return keras.Model(model.input, scores, name=model.name)


def divide_logits(model: keras.Model, temperature: float) -> None:
    """Divides a network's logits by a number, in place, in the weights of its last layer.

    Args:
        model: A network whose last layer is Dense without an activation, as from `build`.
        temperature: A positive number.
    """
    last: Any = model.layers[-1]
    last.set_weights([weight / temperature for weight in last.get_weights()])


def with_head(name: str, images: Any, x: Any, spec: ModelSpec, num_classes: int) -> keras.Model:
    """The network from images to logits: Dense with ReLU and Dropout if the spec has them, then the logits.

    Args:
        images: The network's input.
        x: Features, shape `(N, channels)`.
        spec: A `recipe.ModelSpec`; `head_units`, `head_dropout` and `dropout_scale` are read.
    """
    if spec.head_units:
        x = layers.Dense(spec.head_units, activation="relu", name="hidden")(x)
    if spec.head_dropout:
        x = layers.Dropout(spec.dropout(spec.head_dropout), name="dropout")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="logits")(x), name=name)
