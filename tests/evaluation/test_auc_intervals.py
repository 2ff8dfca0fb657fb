"""AUCs and their intervals by a formula: by hand, compared with scikit-learn and with the bootstrap."""

import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from keras_vision import evaluation
from keras_vision.evaluation.auc_intervals import auc_intervals


def classified(count, classes):
    """Labels and probabilities, with ties, of a classifier that is better than chance."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes)) + np.eye(classes)[labels]
    return labels, evaluation.softmax(np.round(logits, 1))


def test_the_interval_by_hand():
    # Scores .1 .4 | .35 .8, positives last. Placements of the positives 1/2 and 1, of the negatives 1 and 1/2, AUC 3/4:
    # four influences of 1/4 / 2, whose squares sum to 1/16.
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    found = auc_intervals(np.array([0, 0, 1, 1]), np.stack([1 - scores, scores], axis=1))
    for column in (*found.classes.T, found.mean):
        assert column.tolist() == pytest.approx([0.75, 0.75 - 1.96 / 4, 1.0])


def test_values_equal_scikit_learns():
    labels, probabilities = classified(500, 40)  # More classes than are copied at once.
    found = auc_intervals(labels, probabilities)
    expected = [roc_auc_score(labels == k, probabilities[:, k]) for k in range(40)]
    np.testing.assert_allclose(found.classes[0], expected)
    assert found.mean[0] == pytest.approx(np.mean(expected))


def test_intervals_are_those_of_the_bootstrap_where_images_are_many():
    labels, probabilities = classified(1500, 4)
    judgement = evaluation.judge(labels, probabilities, resamples=1000)
    found = auc_intervals(labels, probabilities)
    rows = [(*row, resampled.auc) for row, resampled in zip(found.classes.T, judgement.classes, strict=True)]
    for value, low, high, resampled in [*rows, (*found.mean, judgement.metrics["auc"])]:
        assert resampled.value == pytest.approx(value)
        assert (low, high) == pytest.approx(resampled[1:], abs=0.1 * (high - low))


def test_absent_classes_have_none_and_are_no_part_of_the_mean():
    labels, probabilities = classified(60, 3)
    labels[labels == 2] = 0
    found = auc_intervals(labels, probabilities)
    assert np.isnan(found.classes[:, 2]).all()
    assert found.mean.tolist() == pytest.approx(auc_intervals(labels, probabilities[:, :2]).mean.tolist())
    only = auc_intervals(np.zeros(60, int), probabilities)
    assert np.isnan(only.classes).all()
    assert np.isnan(only.mean).all()


def test_many_images_and_classes_take_the_formula_and_few_the_bootstrap(monkeypatch):
    labels, probabilities = classified(60, 3)
    resampled = evaluation.judge(labels, probabilities, resamples=20)
    monkeypatch.setattr(sys.modules["keras_vision.evaluation.judge"], "_RESAMPLED_AUC", 20 * 60 * 3 - 1)
    by_formula = evaluation.judge(labels, probabilities, resamples=20)
    assert by_formula.metrics["auc"] == tuple(auc_intervals(labels, probabilities).mean)
    assert by_formula.metrics["auc"] != resampled.metrics["auc"]
    others = resampled.metrics.keys() - {"auc"}
    assert {name: by_formula.metrics[name] for name in others} == {name: resampled.metrics[name] for name in others}
    assert [row.support for row in by_formula.classes] == [row.support for row in resampled.classes]
