"""What `judge` returns: counts of images, and values that JSON can hold."""

import json
import math

import numpy as np
import pytest

from keras_vision import evaluation
from keras_vision.evaluation import ClassMetrics, Interval


def test_an_interval_becomes_a_dict():
    assert Interval(0.5, 0.25, 0.75).to_dict() == {"value": 0.5, "low": 0.25, "high": 0.75}


@pytest.mark.parametrize("undefined", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_becomes_none(undefined):
    assert Interval(0.5, undefined, undefined).to_dict() == {"value": 0.5, "low": None, "high": None}
    assert Interval(undefined, 0.0, 1.0).to_dict() == {"value": None, "low": 0.0, "high": 1.0}


def test_the_metrics_of_a_class_become_a_dict_of_dicts():
    undefined = Interval(math.nan, math.nan, math.nan)
    row = ClassMetrics(Interval(0.1, 0.0, 0.2), Interval(0.3, 0.2, 0.4), Interval(0.5, 0.4, 0.6), undefined, support=7)
    expected = {
        "precision": {"value": 0.1, "low": 0.0, "high": 0.2},
        "recall": {"value": 0.3, "low": 0.2, "high": 0.4},
        "f1": {"value": 0.5, "low": 0.4, "high": 0.6},
        "auc": {"value": None, "low": None, "high": None},
        "support": 7,
    }
    assert row.to_dict() == expected
    assert json.loads(json.dumps(row.to_dict(), allow_nan=False)) == expected


def test_correct_images_and_all_images_are_counted():
    # True classes 0 0 0 1 1 2; predicted 0 0 1 1 0 2.
    labels, predicted = np.array([0, 0, 0, 1, 1, 2]), [0, 0, 1, 1, 0, 2]
    judgement = evaluation.judge(labels, np.eye(3)[predicted], resamples=10)
    assert judgement.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert (judgement.correct, judgement.images) == (4, 6)
    assert type(judgement.correct) is type(judgement.images) is int
    assert [row.support for row in judgement.classes] == [3, 2, 1]


def test_a_judgement_can_be_written_as_json_where_a_class_is_absent():
    judgement = evaluation.judge(np.zeros(4, int), np.full((4, 2), [0.9, 0.1]), resamples=10)
    written = json.loads(json.dumps(judgement.to_dict(), allow_nan=False))
    assert written == judgement.to_dict()
    assert set(written) == {*evaluation.METRICS, "auc", "expected_calibration_error"}
    assert written["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert written["auc"] == {"value": None, "low": None, "high": None}
    absent = json.loads(json.dumps(judgement.classes[1].to_dict(), allow_nan=False))
    assert absent["support"] == 0
    assert absent["recall"] == {"value": None, "low": None, "high": None}
