"""Judging a finished classifier from its labels and probabilities: figures, intervals, calibration, reports."""

from keras_vision.evaluation.agreement import Agreement, agreement
from keras_vision.evaluation.calibration import reliability
from keras_vision.evaluation.figures import shorten
from keras_vision.evaluation.judge import Judgement, interval, judge
from keras_vision.evaluation.mcnemar import mcnemar
from keras_vision.evaluation.metrics import METRICS, confusion_matrix, softmax
from keras_vision.evaluation.operating_point import OperatingPoint, operating_point
from keras_vision.evaluation.report import Report

__all__ = [
    "METRICS",
    "Agreement",
    "Judgement",
    "OperatingPoint",
    "Report",
    "agreement",
    "confusion_matrix",
    "interval",
    "judge",
    "mcnemar",
    "operating_point",
    "reliability",
    "shorten",
    "softmax",
]
