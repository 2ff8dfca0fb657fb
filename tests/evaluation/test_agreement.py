"""A converted file compared with the float model, counted by hand."""

import numpy as np
import pytest

from keras_vision import evaluation


def test_lost_and_won_images_are_counted_class_by_class():
    labels = np.array([0, 0, 0, 1, 1])
    before = np.eye(2)[[0, 0, 1, 1, 0]]
    after = np.eye(2)[[0, 1, 0, 0, 0]]
    result = evaluation.agreement(labels, before, after, resamples=10)
    # Correct before: images 0, 1, 3. Correct after: 0, 2. So 1 and 3 are lost, 2 is won, and 1, 2, 3 changed.
    assert result.accuracy_drop == pytest.approx(100 * (3 / 5 - 2 / 5))
    assert result.changed == pytest.approx(3 / 5)
    assert result.classes == [(1, 1), (1, 0)]
    # Of three discordant images at most one is won: p is 2 * (1 + 3) / 8 = 1.
    assert result.mcnemar_p == pytest.approx(1.0)


def test_a_metric_that_is_not_finite_is_null_in_json():
    labels = np.array([0, 0])
    scores = np.array([[0.9, 0.1], [0.8, 0.2]])
    report = evaluation.agreement(labels, scores, scores, resamples=10).to_dict(("a", "b"))
    assert report["metrics"]["auc"] == {"value": None, "low": None, "high": None}
    assert report["metrics"]["accuracy"]["value"] == 1.0
    assert report["classes"] == [{"name": "a", "lost": 0, "won": 0}, {"name": "b", "lost": 0, "won": 0}]
