"""Metrics of a trained classifier from labels and probabilities: intervals, calibration, comparisons. Numbers only."""

from keras_vision.evaluation.agreement import Agreement, agreement, labels_agreement
from keras_vision.evaluation.calibration import (
    Reliability,
    Temperature,
    fit_temperature,
    judge_temperature,
    reliability,
)
from keras_vision.evaluation.gap import Gap, accuracy_gap
from keras_vision.evaluation.interval import Interval
from keras_vision.evaluation.judge import ClassMetrics, Judgement, judge
from keras_vision.evaluation.mcnemar import mcnemar
from keras_vision.evaluation.metrics import METRICS, confused_pairs, confusion_matrix, softmax
from keras_vision.evaluation.operating_point import OperatingPoint, operating_point
from keras_vision.evaluation.over_seeds import mean_interval, paired_difference
from keras_vision.evaluation.selective import (
    CERTAINTY,
    AnswerThreshold,
    Selective,
    choose_answer_threshold,
    judge_selective,
)
from keras_vision.evaluation.several_labels import (
    LabelMetrics,
    LabelsJudgement,
    choose_thresholds,
    judge_labels,
    sigmoid,
)

__all__ = [
    "CERTAINTY",
    "METRICS",
    "Agreement",
    "AnswerThreshold",
    "ClassMetrics",
    "Gap",
    "Interval",
    "Judgement",
    "LabelMetrics",
    "LabelsJudgement",
    "OperatingPoint",
    "Reliability",
    "Selective",
    "Temperature",
    "accuracy_gap",
    "agreement",
    "choose_answer_threshold",
    "choose_thresholds",
    "confused_pairs",
    "confusion_matrix",
    "fit_temperature",
    "judge",
    "judge_labels",
    "judge_selective",
    "judge_temperature",
    "labels_agreement",
    "mcnemar",
    "mean_interval",
    "operating_point",
    "paired_difference",
    "reliability",
    "sigmoid",
    "softmax",
]
