"""Logits, feature maps and their gradients of a Keras model, from one pass over the images.

Gradients with respect to feature maps need no second model: a zero tensor is added to the layer's output while the
graph runs, and the gradient with respect to that zero is the one with respect to the feature maps. So nested models,
frozen layers and several layers at once need no special handling.
"""

import math
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_vision.explanation.feature_layers import find_steps
from keras_vision.explanation.gradients import compile_gradients
from keras_vision.explanation.precision import in_float32
from keras_vision.keras_internals.graph import Step, read_graph, scoring_activation, scoring_step
from keras_vision.recipe import InputError

PREDICTED = -1  # Target class that stands for the one with the largest logit.
_NETWORKS: weakref.WeakKeyDictionary[keras.Model, "Network"] = weakref.WeakKeyDictionary()


def network_of(model: keras.Model) -> "Network":
    """The `Network` of a model, cached as long as the model exists.

    Raises:
        InputError: If the model is not a functional or built Sequential Keras model with one input and one output.
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"A heatmap needs a Keras model. Received: {type(model).__name__}.")
    network = _NETWORKS.get(model)
    # Layers can be added to a Sequential model.
    if network is None or network.layers != model.layers:
        _NETWORKS[model] = network = Network(model)
    return network


def feature_layer(model: keras.Model, layer: str | None = None) -> str:
    """Path of the layer that is explained, such as `backbone/block_16_project`.

    Args:
        layer: Layer name, or None for the last layer with feature maps.

    Raises:
        InputError: If the model or the layer is not supported.
    """
    network = network_of(model)
    (step,) = network.steps(network.graph.input_shape, layer)
    return step.path


class Network:
    """A model's graph with its logits, before any softmax or sigmoid, and its compiled gradients.

    It keeps references to the layers but not to the model, which would otherwise never be freed.
    """

    def __init__(self, model: keras.Model):
        self.graph = read_graph(model)
        self.layers = model.layers
        self.called = list({id(step.layer): step.layer for step in self.graph.steps}.values())
        self.called = [layer for layer in self.called if isinstance(layer, keras.Layer)]
        self.variables = list({id(part): part for layer in self.called for part in layer.variables}.values())
        self.activation = scoring_step(self.graph)
        self.compiled, self.known_shapes = {}, {}

    @property
    def ends_in(self) -> Literal["softmax", "sigmoid"] | None:
        """The final activation, None if the model returns logits."""
        return self.activation and scoring_activation(self.activation.layer)

    def checked(self, images: ArrayLike) -> np.ndarray:
        """Images as an array.

        Raises:
            InputError: If their shape does not match the model's input, or there are none.
        """
        return checked_images(images, self.graph.input_shape)

    def shapes(self, image_shape: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
        """Shape of every tensor, see `Graph.shapes`."""
        # Inferring the shapes takes longer than explaining an image.
        if image_shape not in self.known_shapes:
            self.known_shapes[image_shape] = self.graph.shapes(image_shape)
        return self.known_shapes[image_shape]

    def steps(self, image_shape: tuple[int, ...], layers: str | Sequence[str] | None) -> list[Step]:
        """The steps that output the feature maps of the named layers, see `find_steps`."""
        return find_steps(self.graph, self.shapes(image_shape), layers)

    def differentiate(
        self, images: np.ndarray, target_classes: ArrayLike | None, tensor_numbers: Sequence[int], batch_size: int
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]]:
        """Logits, tensors and the gradients of the target class's logit with respect to them, batch by batch.

        Args:
            images: Shape `(N, *input_shape)`.
            target_classes: One for all images, one per image, or None for the predicted classes.
            tensor_numbers: The tensors to return, by their numbers in the graph; 0 is the images.

        Yields:
            `(logits, tensors, gradients)`: an array `(n, K)` and two lists of arrays `(n, ...)`, float32.
        """
        shapes = self.shapes(images.shape[1:])
        targets = checked_classes(target_classes, len(images), self.num_classes(images.shape[1:]))
        function = self._compiled(tuple(tensor_numbers))
        for batch, count, start in batches(images, batch_size):
            zeros = [ops.zeros((len(batch), *shapes[number]), "float32") for number in tensor_numbers]
            chosen = np.full(len(batch), PREDICTED, np.int32)
            chosen[:count] = targets[start : start + count]
            (logits, *tensors), gradients = function(zeros, batch, chosen)
            yield logits[:count], [part[:count] for part in tensors], [part[:count] for part in gradients]

    def num_classes(self, image_shape: tuple[int, ...]) -> int:
        """Number of classes; a model with one logit has two."""
        return max(2, math.prod(self.shapes(image_shape)[self.graph.output]))

    def _compiled(self, tensor_numbers):
        if tensor_numbers not in self.compiled:
            self.compiled[tensor_numbers] = compile_gradients(self._score(tensor_numbers), self.variables)
        return self.compiled[tensor_numbers]

    def _score(self, tensor_numbers):
        def score(zeros, images, target_classes):
            logits, tensors = self._forward(images, dict(zip(tensor_numbers, zeros, strict=True)))
            classes = ops.where(target_classes == PREDICTED, ops.argmax(logits, axis=-1), target_classes)
            chosen = ops.one_hot(classes, logits.shape[-1], dtype="float32")
            return ops.sum(logits * chosen), [logits, *(tensors[number] for number in tensor_numbers)]

        return score

    def _forward(self, images, zeros):
        """Logits, and the tensors to which zeros were added, both by tensor number."""
        tensors = {}

        def keep(number, value):
            if number in zeros:
                value = value + ops.cast(zeros[number], value.dtype)
            tensors[number] = value
            return value

        with ExitStack() as stack:
            stack.enter_context(in_float32(self.called))
            if self.activation is not None and _has_own_activation(self.activation.layer):
                stack.enter_context(_without_activation(self.activation.layer))
            self.graph.run(keep(0, images), lambda step, value: keep(step.output, value))
        logits: Any = ops.cast(tensors[self._logits()], "float32")
        shape: Any = ops.shape(logits)
        logits = ops.reshape(logits, (shape[0], math.prod(logits.shape[1:])))
        if logits.shape[-1] == 1:
            # One logit z means two classes: sigmoid(z) is the second value of softmax([-z/2, z/2]).
            logits = ops.concatenate([-logits / 2, logits / 2], axis=-1)
        return logits, {number: ops.cast(value, "float32") for number, value in tensors.items() if number in zeros}

    def _logits(self):
        if self.activation is None:
            return self.graph.output
        return self.activation.output if _has_own_activation(self.activation.layer) else self.activation.inputs[0]


def _has_own_activation(layer):
    return not isinstance(layer, keras.layers.Activation) and getattr(layer, "activation", None) is not None


@contextmanager
def _without_activation(layer):
    activation = layer.activation
    layer.activation = keras.activations.linear
    try:
        yield
    finally:
        layer.activation = activation


def fitting(batch_size: int, count: int) -> int:
    """`batch_size`, or the next power of two from `count` if that is smaller, so that few sizes are compiled."""
    return min(batch_size, 1 << (count - 1).bit_length())


def batches(images: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Float32 batches, the last one padded with zeros so that no second size is compiled.

    Yields:
        `(batch, number of images in it, index of the first one)`.
    """
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        batch = np.zeros((batch_size, *images.shape[1:]), np.float32)
        batch[: len(part)] = part
        yield batch, len(part), start


def checked_images(images: ArrayLike, shape: tuple[int | None, ...]) -> np.ndarray:
    """Images as an array; see `Network.checked`."""
    images = np.asarray(images)
    fits = images.ndim == len(shape) + 1 and all(
        wanted in (None, side) for wanted, side in zip(shape, images.shape[1:], strict=True)
    )
    if not fits or not len(images) or images.dtype.kind not in "uif":
        raise InputError(
            f"The model takes images of shape {('N', *shape)}. Received: shape {images.shape} of {images.dtype}."
        )
    return images


def checked_classes(target_classes: ArrayLike | None, count: int, num_classes: int) -> np.ndarray:
    """One class per image as an int32 array, shape `(count,)`; `PREDICTED` if `target_classes` is None.

    Raises:
        InputError: If they are not integers from 0 to `num_classes - 1`, one for all images or one per image.
    """
    if target_classes is None:
        return np.full(count, PREDICTED, np.int32)
    classes = np.asarray(target_classes)
    if classes.dtype.kind not in "ui" or classes.shape not in ((), (count,)):
        raise InputError(
            f"Target classes must be one whole number, or one for each of the {count} images. "
            f"Received: target_classes={target_classes!r}."
        )
    if classes.min() < 0 or classes.max() >= num_classes:
        raise InputError(
            f"The model has the classes 0 to {num_classes - 1}. Received: target_classes={target_classes!r}."
        )
    return np.broadcast_to(classes, count).astype(np.int32)
