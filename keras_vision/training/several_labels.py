"""Training where an image can have several labels, or none: a yes or no for each."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vision.recipe import class_weight_power


@keras.saving.register_keras_serializable("keras_vision")
class LabelsCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of logits, mean over the labels.

    Args:
        weights: Weight of yes and weight of no for each label, shape `(2, K)`; None weighs all alike.
        label_smoothing: Share of each label that is replaced by one half.
    """

    def __init__(self, weights: Any = None, label_smoothing: float = 0.0, name: str = "labels_crossentropy") -> None:
        super().__init__(name=name)
        self.weights, self.label_smoothing = weights, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        truth: Any = ops.cast(y_true, "float32")
        smooth = truth * (1 - self.label_smoothing) + self.label_smoothing / 2
        loss: Any = ops.binary_crossentropy(smooth, y_pred, from_logits=True)
        if self.weights is not None:
            yes, no = (ops.convert_to_tensor(row, "float32") for row in self.weights)
            loss = loss * (truth * yes + (1 - truth) * no)
        return ops.mean(loss, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"weights": self.weights, "label_smoothing": self.label_smoothing, "name": self.name}


def label_weights(labels: np.ndarray, setting: str) -> list[list[float]] | None:
    """Weights of yes and of no for each label, from its frequency in the training split.

    Args:
        labels: Array of 0 and 1, shape `(N, K)`.
        setting: `balanced`, `none`, or a power from 0 to 1 as text: balanced weights raised to it. Balanced, the images
            that have a label weigh as much as those that do not.

    Returns:
        Shape `(2, K)`, each label with a mean of 1 over the images; None if all weights are equal.
    """
    power = class_weight_power(setting)
    if power == 0:
        return None
    share = labels.mean(axis=0)
    yes, no = (0.5 / share) ** power, (0.5 / (1 - share)) ** power
    mean = share * yes + (1 - share) * no
    return [(yes / mean).tolist(), (no / mean).tolist()]
