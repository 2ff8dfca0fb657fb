"""True statistics of normalizations behind dropout: those of activations without dropout's noise.

Where dropout stands before a normalization, training shows the normalization activations with more variance than
inference does, and its moving variance is that of the wrong ones. Validation then jumps from epoch to epoch, and
whatever reads it, such as early stopping, chooses by chance.

Reference:
    Li et al. 2019, https://arxiv.org/abs/1801.05134, on the shift of variance; Wu and Johnson 2021,
    https://arxiv.org/abs/2105.07576, section 3, on statistics that are computed after the training.
"""

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_vision.keras_internals.graph import is_graph, read_graph
from keras_vision.recipe import TrainingSpec
from keras_vision.training.devices import on_one_device
from keras_vision.training.torch_state import without_gradients

# Images that are looked at: at most so many, and at most this share of the training images, since each costs about a
# third of a training step. And values of one layer's output at once.
IMAGES, FEWEST, SHARE, VALUES = 1024, 128, 1 / 8, 2**26


def reestimates_statistics(model: keras.Model, spec: TrainingSpec) -> bool:
    """Whether `fit` re-estimates: as the spec says, else where dropout is before a normalization that learns.

    Args:
        model: A `keras.Model`; one that is not a graph of layers counts as one without dropout.
        spec: A `recipe.TrainingSpec`.
    """
    if spec.true_statistics is not None:
        return spec.true_statistics
    if not is_graph(model):
        return False
    noisy = set()
    for step in read_graph(model).steps:
        if isinstance(step.layer, layers.Dropout) and step.layer.rate > 0:
            noisy.add(step.output)
        elif noisy & set(step.inputs):
            if _learns(step.layer):
                return True
            noisy.add(step.output)
    return False


def reestimate_statistics(model: keras.Model, images: np.ndarray) -> None:
    """Sets the means and variances of a network's normalizations to those of images, with dropout off.

    Each normalization sees what the ones before it make with their new statistics. Those that do not learn keep theirs.

    Args:
        model: A functional or built Sequential `keras.Model`, perhaps of nested ones, changed in place.
        images: As the network takes them, shape `(N, ...)`; more than fit into memory are taken in parts, whose
            statistics are averaged.

    Raises:
        InputError: If the model is no graph of layers.
    """
    graph = read_graph(model)
    norms = {id(step.layer): step.layer for step in graph.steps if _learns(step.layer)}
    noted = {key: [] for key in norms}

    def called(layer):
        return functools.partial(_normalize, layer, noted[id(layer)]) if id(layer) in noted else layer

    largest = max(math.prod(shape) for shape in graph.shapes(graph.input_shape).values())
    parts = np.array_split(np.arange(len(images)), math.ceil(len(images) * largest / VALUES))
    with without_gradients():
        for rows in parts:
            graph.run(ops.convert_to_tensor(np.asarray(images[rows[0] : rows[-1] + 1], "float32")), called=called)
    for key, layer in norms.items():
        # A note for each part, and each call of a layer that is used twice.
        counts, means, variances = (np.stack(values) for values in zip(*noted[key], strict=True))
        shares = counts / counts.sum()
        mean = shares @ means
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(shares @ variances + shares @ (means - mean) ** 2)


def _learns(layer):
    return isinstance(layer, layers.BatchNormalization) and layer.trainable


def _normalize(layer, noted, inputs, **arguments):
    """The layer with the statistics of its inputs, which are noted beside the number of images."""
    axis = layer.axis % len(inputs.shape)
    axes = [number for number in range(len(inputs.shape)) if number != axis]
    mean, variance = ops.mean(x := ops.cast(inputs, "float32"), axes), ops.var(x, axes)
    noted.append([len(inputs), *(np.array(ops.convert_to_numpy(value)) for value in (mean, variance))])
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    return layer(inputs, **{**arguments, "training": False})


class TrueStatistics(keras.callbacks.Callback):
    """Re-estimates a network's statistics before each validation, which then stands for the network as it will be used.

    Training itself uses the statistics of its batches, and nothing changes for it.

    Args:
        split: The training split; some of its images are used, as they are.
    """

    def __init__(self, split: Any):
        super().__init__()
        self._split = split.spread(max(FEWEST, min(IMAGES, int(SHARE * len(split)))))
        self._images: Any = None

    def on_test_begin(self, logs: Any = None) -> None:
        if self._images is None:
            self._images = np.asarray(self._split.images[:])
        with on_one_device(self.model):  # type: ignore[arg-type]
            reestimate_statistics(self.model, self._images)  # type: ignore[arg-type]
