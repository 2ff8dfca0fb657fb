"""Score-CAM: feature maps weighted by the class's probability when they mask the image. Needs no gradients."""

from collections.abc import Sequence
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_vision.explanation.class_activation import in_the_shape_of, weighted_sum
from keras_vision.explanation.feature_layers import last_feature_map
from keras_vision.explanation.heatmap import heatmaps, resize
from keras_vision.explanation.network import batches, checked_classes, fitting, network_of


class Classifier(Protocol):
    """Interface for models that are not Keras models, such as a .tflite file."""

    def feature_shapes(self) -> list[tuple[str, tuple[int, ...], bool]]:
        """`(name, shape without the batch, whether a convolution outputs it)` of each tensor, in execution order."""
        ...

    def feature_maps(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Values of a tensor of `feature_shapes`, by its name, shape `(N, *size, C)`."""
        ...

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities, shape `(N, K)`, of float32 images in `[0, 255]`."""
        ...


def score_cam(
    model: keras.Model | Classifier,
    images: np.ndarray,
    target_classes: ArrayLike | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    batch_size: int = 32,
) -> np.ndarray | list[np.ndarray]:
    """Heatmaps of the regions that suffice to predict one class when the rest of the image is black.

    The paper passes the scores through a softmax over the channels. If the scores are log-probabilities, this is
    proportional to the probabilities, which are the weights here and in the authors' code.

    Args:
        model: A Keras model, or any `Classifier`.
        batch_size: Masked images processed at once. Each image has as many masks as the layer has channels.

    The other arguments, the result and the errors are those of `class_activation_maps`.

    Reference:
        Wang et al. 2020, https://arxiv.org/abs/1910.01279, algorithm 1.
    """
    classifier: Any = model
    if not hasattr(model, "feature_maps") or not hasattr(model, "probabilities"):
        classifier, images = _keras_classifier(classifier, images, batch_size)
    images = np.asarray(images)
    targets = _targets(classifier, images, target_classes, batch_size)
    names = [
        _last_maps(classifier, images.ndim) if name is None else name
        for name in (layers if isinstance(layers, (list, tuple)) else [layers])
    ]
    return in_the_shape_of(layers, [_explained(classifier, images, targets, name, batch_size) for name in names])


def probabilities(model: keras.Model | Classifier, images: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """Class probabilities of a `Classifier`, or of a Keras model that returns logits or probabilities.

    Returns:
        Float array, shape `(N, K)`.
    """
    classifier: Any = model
    if not hasattr(model, "probabilities"):
        # A batch is filled up to its size, so that few sizes are compiled; a few images need no large one.
        classifier, images = _keras_classifier(classifier, images, fitting(batch_size, max(1, len(images))))
    return np.asarray(classifier.probabilities(np.float32(images)))


def _keras_classifier(model, images, batch_size):
    images = network_of(model).checked(images)
    return _KerasClassifier(model, batch_size, fitting(batch_size, len(images))), images


def _targets(model, images, target_classes, batch_size):
    starts = range(0, len(images), batch_size)
    parts = [np.asarray(model.probabilities(np.float32(images[start : start + batch_size]))) for start in starts]
    probabilities = np.concatenate(parts)
    if target_classes is None:
        return probabilities.argmax(axis=1)
    return checked_classes(target_classes, len(images), probabilities.shape[1])


def _last_maps(model, rank):
    """Name of the tensor with the last feature maps; None for a Keras model, whose network resolves it."""
    if isinstance(model, _KerasClassifier):
        return None
    tensors = [item for item in model.feature_shapes() if len(item[1]) == rank - 1]
    return tensors[last_feature_map([item[1:] for item in tensors])][0]


def _explained(model, images, targets, layer, batch_size):
    parts = []
    for start in range(0, len(images), batch_size):
        batch = np.array(images[start : start + batch_size], np.float32)
        feature_maps = np.asarray(model.feature_maps(batch, layer), np.float32)
        for image, maps, target in zip(batch, feature_maps, targets[start:], strict=False):
            weights = _weights(model, image, np.moveaxis(maps, -1, 0), target, batch_size)
            combined = weighted_sum(maps.reshape(1, -1, maps.shape[-1]), weights[np.newaxis])
            parts.append(heatmaps(combined.reshape(1, *maps.shape[:-1]), image.shape[:-1]))
    return np.concatenate(parts)


def _weights(model, image, maps, target, batch_size):
    """Probability of the target class with each channel as mask, shape `(C,)`; 0 for constant channels."""
    weights = np.zeros(len(maps), np.float32)
    varied = np.flatnonzero(np.ptp(maps.reshape(len(maps), -1), axis=1))
    for start in range(0, len(varied), batch_size):
        channels = varied[start : start + batch_size]
        masks = _scaled(resize(maps[channels], image.shape[:-1]))
        weights[channels] = np.asarray(model.probabilities(image * masks[..., np.newaxis]))[:, target]
    return weights


def _scaled(maps):
    axes = tuple(range(1, maps.ndim))
    low, high = maps.min(axis=axes, keepdims=True), maps.max(axis=axes, keepdims=True)
    return np.divide(maps - low, high - low, out=np.zeros_like(maps), where=high > low)


class _KerasClassifier:
    """A Keras model as a `Classifier`, with one batch size for masked images and one for feature maps."""

    def __init__(self, model, batch_size, images_at_once):
        self.model, self.batch_size, self.images_at_once = model, batch_size, images_at_once
        self.network = network_of(model)

    def feature_maps(self, images, layer):
        (step,) = self.network.steps(images.shape[1:], layer)
        results = self.network.differentiate(images, None, [step.output], self.images_at_once)
        return np.concatenate([maps for _, (maps,), _ in results])

    def probabilities(self, images):
        parts = [self._of_batch(batch)[:count] for batch, count, _ in batches(images, self.batch_size)]
        return np.concatenate(parts)

    def _of_batch(self, batch):
        scores = np.asarray(self.model.predict_on_batch(batch), np.float32).reshape(len(batch), -1)
        if self.network.ends_in is None:
            scores = np.concatenate([-scores / 2, scores / 2], axis=1) if scores.shape[1] == 1 else scores
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 else scores
