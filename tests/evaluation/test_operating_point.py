"""The threshold of a two-class network, by hand and beside scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from keras_vision import evaluation


def two(scores):
    """Probabilities of both classes from those of class 1."""
    scores = np.array(scores, float)
    return np.stack([1 - scores, scores], axis=1)


def test_threshold_lies_between_the_images_that_it_parts():
    labels = np.array([0, 0, 0, 1, 1])
    val = two([0.1, 0.2, 0.4, 0.3, 0.35])
    # From .3 on both positives are found, and one of three negatives with them; below lies .2.
    point = evaluation.operating_point(labels, two([0.1, 0.2, 0.26, 0.24, 0.9]), labels, val, positive=1)
    assert point.threshold == pytest.approx(0.25)
    assert point.chosen["sensitivity"][0] == 0.5
    assert point.chosen["specificity"][0] == pytest.approx(2 / 3)
    assert point.half["sensitivity"][0] == 0.5
    assert point.half["specificity"][0] == 1


def test_either_class_can_be_the_one_that_is_looked_for():
    labels, val = np.array([0, 0, 1, 1, 1]), two([0.4, 0.7, 0.6, 0.8, 0.9])
    one, other = (evaluation.operating_point(labels, val, labels, val, positive=k) for k in (0, 1))
    assert one.half["sensitivity"] == other.half["specificity"]
    assert one.half["specificity"] == other.half["sensitivity"]
    assert one.half["sensitivity"][0] == 0.5


def test_rates_and_curve_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    scores = two(np.clip(0.25 * labels + rng.uniform(0, 0.75, 400), 0, 1))
    point = evaluation.operating_point(labels[200:], scores[200:], labels[:200], scores[:200], positive=1)
    found = scores[200:, 1] >= point.threshold
    assert point.chosen["sensitivity"][0] == pytest.approx(metrics.recall_score(labels[200:], found))
    assert point.chosen["specificity"][0] == pytest.approx(metrics.recall_score(labels[200:], found, pos_label=0))
    assert metrics.auc(*point.curve) == pytest.approx(metrics.roc_auc_score(labels[200:], scores[200:, 1]))
    val_found = scores[:200, 1] >= point.threshold
    informedness = metrics.balanced_accuracy_score(labels[:200], val_found, adjusted=True)
    for other in np.linspace(0, 1, 101):
        assert informedness >= metrics.balanced_accuracy_score(labels[:200], scores[:200, 1] >= other, adjusted=True)


def test_intervals_are_wilsons():
    labels = np.array([1] * 10 + [0] * 10)
    scores = two([0.9] * 8 + [0.1] * 2 + [0.2] * 10)
    point = evaluation.operating_point(labels, scores, labels, scores, positive=1)
    # Of 8 in 10, by Wilson 1927: (.490, .943).
    assert point.half["sensitivity"] == pytest.approx((0.8, 0.490, 0.943), abs=5e-4)


def test_a_split_of_one_class_has_no_operating_point():
    labels, scores = np.array([0, 1]), two([0.2, 0.7])
    assert evaluation.operating_point(labels, scores, np.zeros(2, int), scores, positive=1) is None
    assert evaluation.operating_point(np.ones(2, int), scores, labels, scores, positive=1) is None
