"""Training a network to answer as another one does, instead of as the labels say.

Source: Hinton et al. 2015, https://arxiv.org/abs/1503.02531, at temperature 1.
"""

import keras
from keras import ops


class _Student(keras.Model):
    """A functional model whose loss is measured against a teacher's probabilities for the same images."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        answers = ops.stop_gradient(ops.softmax(self.teacher(x, training=False)))
        return super().compute_loss(x=x, y=answers, y_pred=y_pred, sample_weight=sample_weight, training=training)


def student_of(teacher, model):
    """A model that shares `model`'s layers and learns from `teacher`'s answers; labels then serve the metrics alone.

    Args:
        teacher: A `keras.Model` from images to logits; it stays as it is.
        model: A functional `keras.Model` of the same input and output.
    """
    student = _Student(model.input, model.output, name=model.name)
    copy = keras.models.clone_model(teacher)
    copy.set_weights(teacher.get_weights())
    copy.trainable = False
    student.teacher = copy
    return student
