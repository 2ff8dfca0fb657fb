"""Temperatures: scores that say how often they are right."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from keras_vision import evaluation


def drawn(scale, count=4000, classes=4, seed=0):
    """Labels that are drawn from softmax(logits), and logits that are `scale` times too large."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, classes))
    labels = np.array([rng.choice(classes, p=row) for row in softmax(logits, axis=1)])
    return labels, scale * logits


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_scale(scale):
    assert evaluation.fit_temperature(*drawn(scale)) == pytest.approx(scale, rel=0.06)


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_it_lowers_error_and_loss_on_other_images_and_changes_no_answer(scale):
    value = evaluation.fit_temperature(*drawn(scale))
    labels, logits = drawn(scale, seed=1)
    found = evaluation.judge_temperature(value, 4000, labels, logits, resamples=50)
    for name in ("expected_calibration_error", "negative_log_likelihood"):
        before, after = found.before[name], found.after[name]
        assert after.high < before.low
        assert after.low <= after.value <= after.high
    assert found.after["expected_calibration_error"].value < 0.03
    judged = evaluation.judge(labels, softmax(logits, axis=1), resamples=10).metrics["expected_calibration_error"]
    assert found.before["expected_calibration_error"].value == pytest.approx(judged.value)
    losses = -log_softmax(logits / value, axis=1)[np.arange(len(labels)), labels]
    assert found.after["negative_log_likelihood"].value == pytest.approx(losses.mean())
    assert (logits.argmax(axis=1) == (logits / value).argmax(axis=1)).all()
    assert found.to_dict()["temperature"] == value


def test_a_network_without_mistakes_is_not_called_certain():
    labels = np.arange(20) % 2
    logits = np.where(np.eye(2)[labels] == 1, 1.0, -1.0)
    confidence = softmax(logits / evaluation.fit_temperature(labels, logits), axis=1).max()
    assert 0.9 < confidence < 0.99


def test_intervals_by_group_are_wider_where_images_repeat():
    labels, logits = drawn(2.0, count=60)
    many, groups = (np.repeat(labels, 10), np.repeat(logits, 10, axis=0)), np.repeat(np.arange(60), 10)
    by_image, by_group = (
        evaluation.judge_temperature(2.0, 60, *many, groups=members, resamples=100) for members in (None, groups)
    )
    narrow, wide = (found.before["negative_log_likelihood"] for found in (by_image, by_group))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
