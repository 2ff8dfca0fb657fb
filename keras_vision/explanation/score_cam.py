"""Score-CAM: feature maps weighted by the class's probability when they alone let the image through. No gradients."""

from typing import Protocol

import numpy as np

from keras_vision.explanation.class_activation import in_the_shape_of, weighted_sum
from keras_vision.explanation.feature_layers import last_feature_map
from keras_vision.explanation.heatmap import heatmaps, resize
from keras_vision.explanation.network import batches, checked_classes, fitting, network_of


class Classifier(Protocol):
    """What Score-CAM needs of a model that is not a Keras model, a .tflite file say."""

    def feature_shapes(self):
        """`(name, shape without the batch, whether a convolution makes it)` of each tensor, as they are made."""
        ...

    def feature_maps(self, images, layer):
        """The feature maps of a tensor in `feature_shapes`, by name, shape `(N, *size, C)`."""
        ...

    def probabilities(self, images):
        """Class probabilities, shape `(N, K)`, of float32 images in `[0, 255]`."""
        ...


def score_cam(model, images, target_classes=None, *, layers=None, batch_size=32):
    """Heatmaps of the regions that, alone on black, are enough for one class.

    The paper passes the scores through a softmax over the channels. Of the logarithms of probabilities, as here, that
    is the probabilities themselves, by which the authors' own code weights.

    Args:
        model: A Keras model, or any `Classifier`.
        batch_size: Masked images at once. There are as many of them as the layer has channels, for every image.

    The rest is as in `class_activation_maps`.

    Reference:
        Wang et al. 2020, https://arxiv.org/abs/1910.01279, algorithm 1.
    """
    if not hasattr(model, "feature_maps") or not hasattr(model, "probabilities"):
        images = network_of(model).checked(images)
        model = _KerasClassifier(model, batch_size, fitting(batch_size, len(images)))
    images = np.asarray(images)
    targets = _targets(model, images, target_classes, batch_size)
    names = [
        _last_maps(model, images.ndim) if name is None else name
        for name in (layers if isinstance(layers, (list, tuple)) else [layers])
    ]
    found = [_explained(model, images, targets, name, batch_size) for name in names]
    return in_the_shape_of(layers, found)


def probabilities(model, images, *, batch_size=32):
    """Class probabilities of a Keras model, whether it returns logits or probabilities, or of a `Classifier`.

    Returns:
        Float array, shape `(N, K)`.
    """
    if not hasattr(model, "probabilities"):
        images = network_of(model).checked(images)
        model = _KerasClassifier(model, batch_size, fitting(batch_size, len(images)))
    return np.asarray(model.probabilities(np.float32(images)))


def _targets(model, images, target_classes, batch_size):
    starts = range(0, len(images), batch_size)
    parts = [np.asarray(model.probabilities(np.float32(images[start : start + batch_size]))) for start in starts]
    probabilities = np.concatenate(parts)
    if target_classes is None:
        return probabilities.argmax(axis=1)
    return checked_classes(target_classes, len(images), probabilities.shape[1])


def _last_maps(model, rank):
    """Name of the tensor with the last feature maps; None for a Keras model, which finds it itself."""
    if isinstance(model, _KerasClassifier):
        return None
    tensors = [item for item in model.feature_shapes() if len(item[1]) == rank - 1]
    return tensors[last_feature_map([item[1:] for item in tensors])][0]


def _explained(model, images, targets, layer, batch_size):
    made = []
    for start in range(0, len(images), batch_size):
        part = np.float32(images[start : start + batch_size])
        feature_maps = np.asarray(model.feature_maps(part, layer), np.float32)
        for image, maps, target in zip(part, feature_maps, targets[start:], strict=False):
            weights = _weights(model, image, np.moveaxis(maps, -1, 0), target, batch_size)
            combined = weighted_sum(maps.reshape(1, -1, maps.shape[-1]), weights[np.newaxis])
            made.append(heatmaps(combined.reshape(1, *maps.shape[:-1]), image.shape[:-1]))
    return np.concatenate(made)


def _weights(model, image, maps, target, batch_size):
    """Probability of the target class behind each channel, shape `(C,)`; 0 for channels that are the same all over."""
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
    """A Keras model as a `Classifier`, whose batches have two sizes, one for masked images and one for images."""

    def __init__(self, model, batch_size, images_at_once):
        self.model, self.batch_size, self.images_at_once = model, batch_size, images_at_once
        self.network = network_of(model)

    def feature_maps(self, images, layer):
        (step,) = self.network.steps(images.shape[1:], layer)
        made = self.network.differentiate(images, None, [step.output], self.images_at_once)
        return np.concatenate([maps for _, (maps,), _ in made])

    def probabilities(self, images):
        made = [self._of_batch(batch)[:count] for batch, count, _ in batches(images, self.batch_size)]
        return np.concatenate(made)

    def _of_batch(self, batch):
        scores = np.asarray(self.model.predict_on_batch(batch), np.float32).reshape(len(batch), -1)
        if self.network.ends_in is None:
            scores = np.concatenate([-scores / 2, scores / 2], axis=1) if scores.shape[1] == 1 else scores
            powers = np.exp(scores - scores.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] == 1 else scores
