"""Metrics of several labels an image, beside scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from keras_vision import evaluation

IMAGES, LABELS = 200, 4


def drawn(seed=0, images=IMAGES, labels=LABELS, ties=False):
    """Labels and scores that know something of them."""
    rng = np.random.default_rng(seed)
    truth = rng.random((images, labels)) < np.linspace(0.05, 0.6, labels)
    scores = evaluation.sigmoid(2 * truth - 1 + rng.normal(0, 1.5, truth.shape))
    return truth.astype(int), np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_those_of_scikit_learn(ties):
    truth, scores = drawn(ties=ties)
    thresholds = np.array([0.3, 0.5, 0.7, 0.4])
    decided = scores >= thresholds
    found = evaluation.judge_labels(truth, scores, thresholds, resamples=10)
    expected = {
        "exact_match": metrics.accuracy_score(truth, decided),
        "auc": metrics.roc_auc_score(truth, scores),
        "average_precision": metrics.average_precision_score(truth, scores),
        "macro_f1": metrics.f1_score(truth, decided, average="macro"),
        "micro_f1": metrics.f1_score(truth, decided, average="micro"),
        "label_accuracy": np.mean(truth == (scores >= 0.5)),
    }
    assert {name: found.metrics[name].value for name in expected} == pytest.approx(expected)
    for k, row in enumerate(found.classes):
        assert row.recall.value == pytest.approx(metrics.recall_score(truth[:, k], decided[:, k]))
        assert row.specificity.value == pytest.approx(metrics.recall_score(1 - truth[:, k], ~decided[:, k]))
        assert row.precision.value == pytest.approx(metrics.precision_score(truth[:, k], decided[:, k]))
        assert row.support == truth[:, k].sum()
    assert found.correct == metrics.accuracy_score(truth, decided, normalize=False)
    error = found.metrics["expected_calibration_error"].value
    assert error == pytest.approx(found.calibration.expected_calibration_error)


def test_intervals_are_those_of_resampled_images():
    truth, scores = drawn()
    found = evaluation.judge_labels(truth, scores, np.full(LABELS, 0.5), resamples=400)
    rng = np.random.default_rng(1)
    by_hand = []
    for _ in range(400):
        rows = rng.integers(0, IMAGES, IMAGES)
        by_hand.append(metrics.average_precision_score(truth[rows], scores[rows]))
    low, high = np.quantile(by_hand, [0.025, 0.975])
    assert found.metrics["average_precision"].low == pytest.approx(low, abs=0.03)
    assert found.metrics["average_precision"].high == pytest.approx(high, abs=0.03)


def test_a_label_without_images_is_left_out_of_the_means():
    truth, scores = drawn()
    truth[:, 1] = 0
    found = evaluation.judge_labels(truth, scores, np.full(LABELS, 0.5), resamples=20)
    there = [0, 2, 3]
    assert found.metrics["auc"].value == pytest.approx(metrics.roc_auc_score(truth[:, there], scores[:, there]))
    assert np.isnan(found.classes[1].auc.value)
    assert found.classes[1].to_dict()["auc"]["value"] is None
    assert found.classes[1].support == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_thresholds_have_the_highest_f1(seed, ties):
    truth, scores = drawn(seed, images=40, ties=ties)
    thresholds = evaluation.choose_thresholds(truth, scores)
    for k, threshold in enumerate(thresholds):
        if not truth[:, k].any():
            assert threshold == 0.5
            continue
        called = scores[:, k] >= scores[:, k, np.newaxis]  # A row for each threshold that may matter.
        best = np.max(2 * (called & truth[:, k]).sum(axis=1) / (called.sum(axis=1) + truth[:, k].sum()))
        assert metrics.f1_score(truth[:, k], scores[:, k] >= threshold) == pytest.approx(best)


def test_a_file_is_compared_label_by_label():
    truth = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    before = np.where(truth, 0.9, 0.1)
    after = before.copy()
    after[0, 0], after[2] = 0.2, [0.3, 0.4]
    found = evaluation.labels_agreement(truth, before, after, np.array([0.5, 0.5]), resamples=10)
    assert found.classes == [(2, 0), (1, 0)]
    assert found.changed == 0.5
    assert found.accuracy_drop == 50
    assert found.judgement.metrics["exact_match"].value == 0.5


def test_many_images_have_fewer_resamples(monkeypatch):
    truth, scores = drawn()
    sizes = []
    monkeypatch.setattr(evaluation.several_labels, "_RESAMPLED", 150 * truth.size)
    original = evaluation.several_labels.resampled
    monkeypatch.setattr(
        evaluation.several_labels, "resampled", lambda *given: sizes.append(given[2]) or original(*given)
    )
    evaluation.judge_labels(truth, scores, np.full(LABELS, 0.5))
    assert sizes == [150]
