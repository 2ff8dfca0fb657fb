"""Metrics of a trained classifier from labels and probabilities: intervals, calibration, comparisons. Numbers only."""

from keras_vision.evaluation.agreement import Agreement, agreement
from keras_vision.evaluation.calibration import Reliability, reliability
from keras_vision.evaluation.gap import Gap, accuracy_gap
from keras_vision.evaluation.judge import ClassMetrics, Interval, Judgement, judge
from keras_vision.evaluation.mcnemar import mcnemar
from keras_vision.evaluation.metrics import METRICS, confused_pairs, confusion_matrix, softmax
from keras_vision.evaluation.operating_point import OperatingPoint, operating_point

__all__ = [
    "METRICS",
    "Agreement",
    "ClassMetrics",
    "Gap",
    "Interval",
    "Judgement",
    "OperatingPoint",
    "Reliability",
    "accuracy_gap",
    "agreement",
    "confused_pairs",
    "confusion_matrix",
    "judge",
    "mcnemar",
    "operating_point",
    "reliability",
    "softmax",
]
