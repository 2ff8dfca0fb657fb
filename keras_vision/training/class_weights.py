"""Class weights, which give rare classes more weight in the loss."""

from typing import Any

import keras
import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from keras_vision.recipe import class_weight_power


def class_weights(labels: np.ndarray, num_classes: int, setting: str) -> dict[int, float] | None:
    """Weight of each class, from its frequency in the training split.

    Args:
        labels: Int array, shape `(N,)`, with every class.
        num_classes: Number of classes.
        setting: `balanced`, `none`, or a power from 0 to 1 as text: scikit-learn's balanced weights raised to it.

    Returns:
        `{class: weight}` with a mean of 1 over the images; None if all weights are equal.
    """
    power = class_weight_power(setting)
    if power == 0:
        return None
    classes = np.arange(num_classes)
    weights = compute_class_weight("balanced", classes=classes, y=labels) ** power
    # Powers of balanced weights have another mean, which would scale the learning rate.
    weights /= weights[labels].mean()
    return dict(zip(classes.tolist(), weights.tolist(), strict=True))


def weighed(batch: tuple[Any, ...], weights: dict[int, float] | None) -> tuple[Any, ...]:
    """A batch of images and one-hot labels with the weight of each image, as Keras's `class_weight` gives it."""
    if weights is None:
        return batch
    found = [weights.get(int(label), 1.0) for label in batch[1].argmax(axis=-1)]
    return (*batch, np.array(found, keras.config.floatx()))
