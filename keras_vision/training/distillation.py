"""Training a network to answer as another one does, instead of as the labels say.

Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, at temperature 1.
"""

import keras
from keras import ops


class _Student(keras.Model):
    """A functional model whose loss is measured against `answers(images)` instead of the labels."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        answers = ops.stop_gradient(self.answers(x))
        return super().compute_loss(x=x, y=answers, y_pred=y_pred, sample_weight=sample_weight, training=training)


def student_of(teacher, model):
    """A model that shares `model`'s layers and learns from `teacher`'s answers; labels then serve the metrics alone.

    Args:
        teacher: A `keras.Model` from images to logits; it stays as it is.
        model: A functional `keras.Model` of the same input and output.
    """
    student = _Student(model.input, model.output, name=model.name)
    # Behind a function, so that Keras does not take the teacher for a part of the student: on torch it looks up what
    # to clear the gradients of by the variables' names, and these are the same in both.
    student.answers = lambda images: ops.softmax(teacher(images, training=False))
    return student
