"""Where a classifier is unsure: by hand, against scipy's binomial test, and what is promised, on drawn classifiers."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from keras_vision import evaluation


def two_classes(confidence, wrong):
    """Labels and probabilities of images with these confidences, of which these are misclassified."""
    probabilities = np.stack([confidence, 1 - np.asarray(confidence)], axis=1)
    return np.asarray(wrong).astype(int), probabilities


def falling(count, steps=None):
    """Confidences from high to low, all different, or on a grid of so many steps."""
    found = np.linspace(0.999, 0.501, count)
    return found if steps is None else np.floor(found * steps) / steps


def test_by_hand_the_search_ends_at_the_first_test_that_fails():
    # At 5 % 59 images without a mistake are the fewest: .95^59 = .0485. The mistake at place 70 fails the test on 70.
    wrong = np.zeros(100)
    wrong[69] = 1
    labels, probabilities = two_classes(falling(100), wrong)
    found = evaluation.choose_answer_threshold(labels, probabilities, 0.05)
    assert (found.needed, found.answered, found.wrong, found.reason) == (59, 69, 0, None)
    assert probabilities[69, 0] < found.value < probabilities[68, 0]
    assert found.value == pytest.approx((probabilities[68, 0] + probabilities[69, 0]) / 2)
    judged = evaluation.judge_selective(found, labels, probabilities)
    assert judged.answered.value == pytest.approx(0.69)
    assert (judged.error.value, judged.error.low) == (0, 0)
    assert not judged.is_broken


@pytest.mark.parametrize("target", [0.02, 0.1, 0.3])
def test_it_is_scipys_binomial_test_at_every_number_of_images(target):
    rng = np.random.default_rng(3)
    confidence = falling(600)
    labels, probabilities = two_classes(confidence, rng.random(600) < (1 - confidence))
    found = evaluation.choose_answer_threshold(labels, probabilities, target)
    mistakes = np.concatenate([[0], np.cumsum(labels)])
    last = 0
    for count in range(max(found.needed, 120), 601):
        if binomtest(int(mistakes[count]), count, target, alternative="less").pvalue > 0.05:
            break
        last = count
    assert found.answered == last or (found.value is None and last == 0)


def test_a_classifier_without_mistakes_answers_everything():
    labels, probabilities = two_classes(falling(80), np.zeros(80))
    found = evaluation.choose_answer_threshold(labels, probabilities, 0.05)
    assert (found.value, found.answered) == (0.0, 80)
    assert evaluation.judge_selective(found, labels, probabilities).answered.value == 1


def test_no_promise_is_made_without_enough_images_or_with_too_many_mistakes():
    few = evaluation.choose_answer_threshold(*two_classes(falling(58), np.zeros(58)), 0.05)
    assert few.value is None
    assert few.reason == (
        "The validation split has 58 images. To promise an error of at most 0.05 at least 59 are needed, without a "
        "mistake among the most confident."
    )
    bad = evaluation.choose_answer_threshold(*two_classes(falling(400), np.arange(400) % 10 == 0), 0.05)
    assert bad.value is None
    assert bad.reason == (
        "Of the 80 most confident validation images 8 are misclassified, which does not show an error of at most 0.05."
    )
    judged = evaluation.judge_selective(bad, *two_classes(falling(400), np.zeros(400)))
    assert judged.answered.value == 0
    assert math.isnan(judged.error.value)
    assert judged.to_dict()["error"] == {"value": None, "low": None, "high": None}


def test_the_last_bits_of_a_score_do_not_decide():
    # Half of the images share a score, but for what another number of threads changes in it.
    rng = np.random.default_rng(0)
    shared = np.concatenate([falling(200) / 4 + 0.75, np.full(200, 0.7)])
    wrong = np.arange(400) >= 230
    found, answered = [], []
    for _ in range(5):
        labels, probabilities = two_classes(shared + rng.uniform(-1e-7, 1e-7, 400), wrong)
        found.append(evaluation.choose_answer_threshold(labels, probabilities, 0.1))
        again = two_classes(shared + rng.uniform(-1e-7, 1e-7, 400), wrong)
        answered.append(evaluation.judge_selective(found[-1], *again).answered.value)
    assert [threshold.answered for threshold in found] == [200] * 5
    assert answered == [0.5] * 5


def test_a_float32_score_at_the_threshold_is_treated_as_in_float64():
    labels, probabilities = two_classes(falling(200, steps=256), np.arange(200) > 100)
    narrow = probabilities.astype(np.float32)
    found = evaluation.choose_answer_threshold(labels, probabilities, 0.05)
    assert evaluation.choose_answer_threshold(labels, narrow, 0.05) == found
    answered = [evaluation.judge_selective(found, labels, part).answered.value for part in (narrow, probabilities)]
    assert answered == [found.answered / 200] * 2


@pytest.mark.parametrize("steps", [None, 256, 20])
def test_the_error_is_what_was_promised_in_95_of_100_validation_splits(steps):
    # Of a large set the error above every threshold is known, so each promise can be checked.
    rng = np.random.default_rng(0)
    confidence = falling(4_000, steps)
    labels, probabilities = two_classes(confidence, rng.random(4_000) < 4 * (1 - confidence) ** 3)
    broken = answered = 0
    for _ in range(400):
        drawn = rng.integers(0, len(labels), 500)
        found = evaluation.choose_answer_threshold(labels[drawn], probabilities[drawn], 0.1)
        if found.value is None:
            continue
        judged = evaluation.judge_selective(found, labels, probabilities)
        broken += judged.error.value > 0.1
        answered += judged.answered.value
    assert broken <= 30  # 20 are expected at most; more than 30 have a probability of .008.
    assert answered / 400 > 0.5


def test_images_of_a_group_count_as_fewer():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(60), 10)
    confidence = np.repeat(rng.permutation(falling(60)), 10) + rng.random(600) * 1e-3
    labels, probabilities = two_classes(np.minimum(confidence, 1), np.zeros(600))
    alone = evaluation.choose_answer_threshold(labels, probabilities, 0.03)
    grouped = evaluation.choose_answer_threshold(labels, probabilities, 0.03, groups=groups)
    assert alone.value == 0
    # 60 groups without a mistake do not show an error of 3 %, for which 99 are needed.
    assert grouped.value is None
    assert grouped.reason is not None
    assert grouped.reason.startswith("The validation split has 600 images in 60 groups. To promise")
    enough = evaluation.choose_answer_threshold(labels, probabilities, 0.06, groups=groups)
    assert (enough.value, enough.needed) == (0, 49)
    wider = evaluation.judge_selective(alone, *two_classes(confidence, groups % 5 == 0), groups=groups).error
    narrow = evaluation.judge_selective(alone, *two_classes(confidence, groups % 5 == 0)).error
    assert wider.high - wider.low > 2 * (narrow.high - narrow.low)
