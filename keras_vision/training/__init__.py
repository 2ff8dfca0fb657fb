"""Fitting: losses, class weights, schedules, distillation, callbacks, and the history that they leave."""

from keras_vision.training.class_weights import class_weights
from keras_vision.training.distillation import student_of
from keras_vision.training.fit import fit
from keras_vision.training.history import History

__all__ = ["History", "class_weights", "fit", "student_of"]
