"""What `judge` returns: counts of images, and values that JSON can hold."""

import json
import math
import sys

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


def grouped(groups, images, seed=0):
    """Labels, probabilities and groups: every group has an accuracy of its own, 2/3 on average."""
    rng = np.random.default_rng(seed)
    correct = rng.random((groups, images)) < rng.beta(2, 1, groups)[:, np.newaxis]
    labels = rng.integers(0, 2, (groups, images))
    scores = rng.uniform(0.55, 0.95, (groups, images))
    first = np.where(labels == 0, scores, 1 - scores)
    first = np.where(correct, first, 1 - first).ravel()
    return labels.ravel(), np.stack([first, 1 - first], axis=1), np.repeat([f"P{n}" for n in range(groups)], images)


@pytest.fixture(params=["resampled", "by formula"])
def either_auc(request, monkeypatch):
    """Both ways to the intervals of the AUC."""
    if request.param == "by formula":
        monkeypatch.setattr(sys.modules["keras_vision.evaluation.judge"], "_RESAMPLED_AUC", 0)


def same(first, second):
    for one, other in zip(
        [*first.metrics.values(), *(row.auc for row in first.classes)],
        [*second.metrics.values(), *(row.auc for row in second.classes)],
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.usefixtures("either_auc")
def test_copies_of_an_image_as_a_group_have_the_intervals_of_the_image():
    labels, probabilities, _ = grouped(40, 1)
    single = evaluation.judge(labels, probabilities, resamples=100)
    copied = np.repeat(np.arange(40), 7)
    by_group = evaluation.judge(labels[copied], probabilities[copied], groups=copied.astype(str), resamples=100)
    same(by_group, single)
    assert (single.groups, by_group.groups) == (None, 40)
    by_image = evaluation.judge(labels[copied], probabilities[copied], resamples=100)
    for name in ("accuracy", "auc"):
        widths = [found.metrics[name].high - found.metrics[name].low for found in (by_image, by_group)]
        assert widths[0] < 0.55 * widths[1], name  # The square root of 7 is 2.6.


@pytest.mark.usefixtures("either_auc")
def test_groups_of_one_image_change_nothing():
    labels, probabilities, names = grouped(60, 1)
    same(
        evaluation.judge(labels, probabilities, groups=names[::-1], resamples=50),
        evaluation.judge(labels, probabilities, resamples=50),
    )


def test_images_of_a_group_need_not_be_neighbours():
    labels, probabilities, names = grouped(12, 5)
    order = np.argsort(np.arange(60) % 5, kind="stable")  # The first image of each group, then the second of each.
    same(
        evaluation.judge(labels[order], probabilities[order], groups=names[order], resamples=50),
        evaluation.judge(labels, probabilities, groups=names, resamples=50),
    )


def test_an_interval_by_group_contains_the_accuracy_of_new_groups_more_often():
    inside = {"image": 0, "group": 0}
    for seed in range(60):
        labels, probabilities, names = grouped(30, 8, seed)
        for way, groups in (("image", None), ("group", names)):
            _, low, high = evaluation.judge(labels, probabilities, groups=groups, resamples=100).metrics["accuracy"]
            inside[way] += low <= 2 / 3 <= high
    assert inside["group"] >= 52
    assert inside["image"] <= 48


@pytest.mark.usefixtures("either_auc")
def test_one_group_has_metrics_and_no_intervals():
    labels, probabilities, names = grouped(1, 50)
    judgement = evaluation.judge(labels, probabilities, groups=names, resamples=20)
    plain = evaluation.judge(labels, probabilities, resamples=20)
    for name, (value, low, high) in judgement.metrics.items():
        assert value == plain.metrics[name].value
        assert np.isnan([low, high]).all()
    assert np.isnan([row.recall[1:] for row in judgement.classes]).all()
    assert judgement.to_dict()["accuracy"]["low"] is None


def test_a_file_is_compared_by_group():
    labels, probabilities, names = grouped(20, 5)
    found = evaluation.agreement(labels, probabilities, probabilities, groups=names, resamples=50)
    assert found.judgement.metrics == evaluation.judge(labels, probabilities, groups=names, resamples=50).metrics
