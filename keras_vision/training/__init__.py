"""Fitting: losses, class weights, schedules, callbacks, and the history that they leave."""

from keras_vision.training.class_weights import class_weights
from keras_vision.training.fit import fit
from keras_vision.training.history import History

__all__ = ["History", "class_weights", "fit"]
