"""Distillation: training a network on the predictions of another one instead of on the labels.

Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, at temperature 1.
"""

from typing import Any

import keras
from keras import ops


class _Student(keras.Model):
    """A functional model whose loss compares it with `teach(images)` instead of the labels, or a share of both."""

    teach: Any
    share: float

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        targets: Any = ops.stop_gradient(self.teach(x))
        if self.share < 1:
            labels: Any = ops.cast(y, targets.dtype)
            targets = self.share * targets + (1 - self.share) * labels
        return super().compute_loss(x=x, y=targets, y_pred=y_pred, sample_weight=sample_weight, training=training)


def student_of(
    teacher: keras.Model, model: keras.Model, *, several_labels: bool = False, share: float = 1.0
) -> keras.Model:
    """A model with `model`'s layers that is trained on `teacher`'s probabilities.

    Args:
        teacher: A `keras.Model` from images to logits; not changed.
        model: A functional `keras.Model` with the same input and output shapes.
        several_labels: Whether each logit is a yes or no of its own.
        share: Share of the teacher in what is learned; the rest are the labels, which else only serve the metrics.
    """
    scores = ops.sigmoid if several_labels else ops.softmax
    student = _Student(model.input, model.output, name=model.name)
    # In a function, so that Keras does not track the teacher as a part of the student: on torch, Keras finds the
    # gradients to clear by the variables' names, which both have in common.
    student.share = share
    student.teach = lambda images: scores(teacher(images, training=False))
    return student
