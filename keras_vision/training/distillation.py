"""Distillation: training a network on the predictions of another one instead of on the labels.

Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, at temperature 1.
"""

from typing import Any

import keras
from keras import ops


class _Student(keras.Model):
    """A functional model whose loss compares it with `teach(images)` instead of the labels."""

    teach: Any

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        targets = ops.stop_gradient(self.teach(x))
        return super().compute_loss(x=x, y=targets, y_pred=y_pred, sample_weight=sample_weight, training=training)


def student_of(teacher: keras.Model, model: keras.Model, *, several_labels: bool = False) -> keras.Model:
    """A model with `model`'s layers that is trained on `teacher`'s probabilities; labels only serve the metrics.

    Args:
        teacher: A `keras.Model` from images to logits; not changed.
        model: A functional `keras.Model` with the same input and output shapes.
        several_labels: Whether each logit is a yes or no of its own.
    """
    scores = ops.sigmoid if several_labels else ops.softmax
    student = _Student(model.input, model.output, name=model.name)
    # In a function, so that Keras does not track the teacher as a part of the student: on torch, Keras finds the
    # gradients to clear by the variables' names, which both have in common.
    student.teach = lambda images: scores(teacher(images, training=False))
    return student
