"""The threshold of a two-class classifier, by hand and compared with scikit-learn."""

import json
import math

import numpy as np
import pytest
from sklearn import metrics

from keras_vision import evaluation
from keras_vision.evaluation import Interval, OperatingPoint


def two(scores):
    """Probabilities of both classes from those of class 1."""
    scores = np.array(scores, float)
    return np.stack([1 - scores, scores], axis=1)


def test_the_threshold_is_halfway_between_the_images_that_it_separates():
    labels = np.array([0, 0, 0, 1, 1])
    val = two([0.1, 0.2, 0.4, 0.3, 0.35])
    # From .3 upwards: both positives and one of three negatives. The next lower score is .2.
    point = evaluation.operating_point(labels, two([0.1, 0.2, 0.26, 0.24, 0.9]), labels, val, positive=1)
    assert point.threshold == pytest.approx(0.25)
    assert point.chosen["sensitivity"][0] == 0.5
    assert point.chosen["specificity"][0] == pytest.approx(2 / 3)
    assert point.half["sensitivity"][0] == 0.5
    assert point.half["specificity"][0] == 1


def test_either_class_can_be_the_positive_one():
    labels, val = np.array([0, 0, 1, 1, 1]), two([0.4, 0.7, 0.6, 0.8, 0.9])
    one, other = (evaluation.operating_point(labels, val, labels, val, positive=k) for k in (0, 1))
    assert one.half["sensitivity"] == other.half["specificity"]
    assert one.half["specificity"] == other.half["sensitivity"]
    assert one.half["sensitivity"][0] == 0.5


def test_rates_and_curve_equal_scikit_learns():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    scores = two(np.clip(0.25 * labels + rng.uniform(0, 0.75, 400), 0, 1))
    point = evaluation.operating_point(labels[200:], scores[200:], labels[:200], scores[:200], positive=1)
    detected = scores[200:, 1] >= point.threshold
    assert point.chosen["sensitivity"][0] == pytest.approx(metrics.recall_score(labels[200:], detected))
    assert point.chosen["specificity"][0] == pytest.approx(metrics.recall_score(labels[200:], detected, pos_label=0))
    assert metrics.auc(*point.curve) == pytest.approx(metrics.roc_auc_score(labels[200:], scores[200:, 1]))
    val_detected = scores[:200, 1] >= point.threshold
    informedness = metrics.balanced_accuracy_score(labels[:200], val_detected, adjusted=True)
    for other in np.linspace(0, 1, 101):
        assert informedness >= metrics.balanced_accuracy_score(labels[:200], scores[:200, 1] >= other, adjusted=True)


def test_intervals_are_wilsons():
    labels = np.array([1] * 10 + [0] * 10)
    scores = two([0.9] * 8 + [0.1] * 2 + [0.2] * 10)
    point = evaluation.operating_point(labels, scores, labels, scores, positive=1)
    # 8 of 10, Wilson 1927: (.490, .943).
    assert point.half["sensitivity"] == pytest.approx((0.8, 0.490, 0.943), abs=5e-4)


def test_a_split_of_one_class_has_no_operating_point():
    labels, scores = np.array([0, 1]), two([0.2, 0.7])
    assert evaluation.operating_point(labels, scores, np.zeros(2, int), scores, positive=1) is None
    assert evaluation.operating_point(np.ones(2, int), scores, labels, scores, positive=1) is None


def test_an_operating_point_can_be_written_as_json_without_its_curve():
    rates = {"sensitivity": Interval(0.8, 0.5, 0.9), "specificity": Interval(math.nan, math.nan, 1.0)}
    half = {"sensitivity": Interval(0.7, 0.4, 0.8), "specificity": Interval(1.0, 0.6, 1.0)}
    point = OperatingPoint(positive=1, threshold=0.25, chosen=rates, half=half, curve=np.zeros((2, 3)))
    expected = {
        "positive": "pneumonia",
        "threshold": 0.25,
        "at_threshold": {
            "sensitivity": {"value": 0.8, "low": 0.5, "high": 0.9},
            "specificity": {"value": None, "low": None, "high": 1.0},
        },
        "at_one_half": {
            "sensitivity": {"value": 0.7, "low": 0.4, "high": 0.8},
            "specificity": {"value": 1.0, "low": 0.6, "high": 1.0},
        },
    }
    assert point.to_dict(("normal", "pneumonia")) == expected
    assert json.loads(json.dumps(point.to_dict(("normal", "pneumonia")), allow_nan=False)) == expected


def test_a_computed_operating_point_has_only_json_types():
    labels, scores = np.array([0, 0, 1, 1]), two([0.2, 0.3, 0.6, 0.9]).astype(np.float32)
    point = evaluation.operating_point(labels, scores, labels, scores, positive=0)
    written = json.loads(json.dumps(point.to_dict(("normal", "pneumonia")), allow_nan=False))
    assert written["positive"] == "normal"
    assert written["threshold"] == pytest.approx((0.7 + 0.4) / 2)
    assert written["at_threshold"]["sensitivity"]["value"] == 1.0
