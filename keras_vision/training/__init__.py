"""Training: losses, class weights, schedules, callbacks, checkpoints, learning-rate range test and distillation."""

from keras_vision.training import devices
from keras_vision.training.checkpoint import Checkpoints
from keras_vision.training.class_weights import class_weights
from keras_vision.training.distillation import student_of
from keras_vision.training.fit import compile_model, fit
from keras_vision.training.history import History
from keras_vision.training.interrupt import Interrupt, Interrupted
from keras_vision.training.joint_checkpoints import ProcessLost
from keras_vision.training.native_operations import native_operations
from keras_vision.training.own_loop import PREDICTIONS, STEPS
from keras_vision.training.profile import Profile, profile
from keras_vision.training.range_test import range_test
from keras_vision.training.rate_curve import RateCurve, read_curve
from keras_vision.training.statistics import reestimate_statistics, reestimates_statistics

__all__ = [
    "PREDICTIONS",
    "STEPS",
    "Checkpoints",
    "History",
    "Interrupt",
    "Interrupted",
    "ProcessLost",
    "Profile",
    "RateCurve",
    "class_weights",
    "compile_model",
    "devices",
    "fit",
    "native_operations",
    "profile",
    "range_test",
    "read_curve",
    "reestimate_statistics",
    "reestimates_statistics",
    "student_of",
]
