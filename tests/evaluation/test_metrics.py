"""Metrics by hand, then compared with scikit-learn and MedMNIST's own evaluator."""

import medmnist
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from keras_vision import evaluation
from keras_vision.evaluation.metrics import METRICS, class_auc, class_counts, confusion_matrix, quadratic_kappa
from keras_vision.evaluation.resampling import resampled_weights

AVERAGES = ("macro", "weighted")


@pytest.fixture(params=[2, 3, 7])
def classified(request):
    """Labels and probabilities, with ties, of a classifier whose accuracy is better than chance."""
    rng = np.random.default_rng(request.param)
    labels = rng.choice(request.param, 300, p=np.arange(1, request.param + 1) / np.arange(1, request.param + 1).sum())
    logits = rng.normal(0, 1, (300, request.param)) + 1.2 * np.eye(request.param)[labels]
    return labels, evaluation.softmax(np.round(logits, 1))


def test_metrics_by_hand():
    # True classes 0 0 0 1 1 2; predicted 0 0 1 1 0 2.
    # Recalls 2/3, 1/2, 1; precisions 2/3, 1/2, 1; the same F1s.
    probabilities = np.eye(3)[[0, 0, 1, 1, 0, 2]]
    metrics = evaluation.judge(np.array([0, 0, 0, 1, 1, 2]), probabilities, resamples=10).metrics
    assert metrics["accuracy"][0] == pytest.approx(4 / 6)
    for name in ("balanced_accuracy", "macro_f1", "macro_precision"):
        assert metrics[name][0] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics["weighted_f1"][0] == pytest.approx((3 * 2 / 3 + 2 * 1 / 2 + 1) / 6)


def test_auc_by_hand():
    # Scores .1 .4 | .35 .8 (positives last): of the 4 pairs, (.1,.35) (.1,.8) (.4,.8) are in the right order: 3/4.
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    labels = np.array([0, 0, 1, 1])
    assert class_auc(labels, np.stack([1 - scores, scores], axis=1), np.ones((1, 4))).tolist() == [[0.75, 0.75]]
    # All scores equal: every pair is a tie.
    assert class_auc(labels, np.full((4, 2), 0.5), np.ones((1, 4))).tolist() == [[0.5, 0.5]]


def test_metrics_equal_scikit_learns(classified):
    labels, probabilities = classified
    predicted = probabilities.argmax(axis=1)
    recalls = {f"{kind}_recall": sklearn_metrics.recall_score(labels, predicted, average=kind) for kind in AVERAGES}
    expected = {
        **recalls,
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
        "weighted_f1": sklearn_metrics.f1_score(labels, predicted, average="weighted"),
        "macro_precision": sklearn_metrics.precision_score(labels, predicted, average="macro"),
        "weighted_precision": sklearn_metrics.precision_score(labels, predicted, average="weighted"),
    }
    metrics = evaluation.judge(labels, probabilities, resamples=10).metrics
    assert {name: metrics[name][0] for name in METRICS} == pytest.approx(expected)
    matrix = confusion_matrix(labels, predicted, probabilities.shape[1])
    assert np.array_equal(matrix, sklearn_metrics.confusion_matrix(labels, predicted))


def test_accuracy_and_auc_equal_medmnists_evaluator(classified):
    labels, probabilities = classified
    task = "binary-class" if probabilities.shape[1] == 2 else "multi-class"
    metrics = evaluation.judge(labels, probabilities, resamples=10).metrics
    assert metrics["accuracy"][0] == pytest.approx(medmnist.evaluator.getACC(labels, probabilities, task))
    assert metrics["auc"][0] == pytest.approx(medmnist.evaluator.getAUC(labels, probabilities, task))


def test_each_class_equals_scikit_learns(classified):
    labels, probabilities = classified
    expected = sklearn_metrics.classification_report(labels, probabilities.argmax(axis=1), output_dict=True)
    for k, row in enumerate(evaluation.judge(labels, probabilities, resamples=10).classes):
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert getattr(row, ours).value == pytest.approx(expected[str(k)][theirs])
        assert row.support == expected[str(k)]["support"]
        assert row.auc.value == pytest.approx(sklearn_metrics.roc_auc_score(labels == k, probabilities[:, k]))


def test_a_weight_counts_like_copies_of_the_image(classified):
    labels, probabilities = classified
    weights = np.random.default_rng(0).integers(0, 3, len(labels))
    copied = np.repeat(np.arange(len(labels)), weights)
    plain = class_auc(labels[copied], probabilities[copied], np.ones((1, len(copied))))
    np.testing.assert_allclose(class_auc(labels, probabilities, weights[np.newaxis].astype(float)), plain)


def test_the_interval_of_accuracy_matches_the_normal_approximation():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    predicted = np.where(rng.random(1000) < 0.8, labels, 1 - labels)
    value, low, high = evaluation.judge(labels, np.eye(2)[predicted], resamples=2000).metrics["accuracy"]
    spread = 1.96 * np.sqrt(value * (1 - value) / 1000)
    assert low == pytest.approx(value - spread, abs=0.004)
    assert high == pytest.approx(value + spread, abs=0.004)


def test_every_metric_is_inside_its_interval(classified):
    judgement = evaluation.judge(*classified, resamples=200)
    for name, (value, low, high) in judgement.metrics.items():
        if name != "expected_calibration_error":  # Resampling makes bins noisier, which raises this interval.
            assert low <= value <= high, name


def test_equal_seeds_give_equal_intervals(classified):
    assert evaluation.judge(*classified, seed=3).metrics == evaluation.judge(*classified, seed=3).metrics


def test_absent_and_never_predicted_classes_are_handled():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.9, 0.1, 0.0]])
    judgement = evaluation.judge(labels, probabilities, resamples=50)
    assert judgement.metrics["balanced_accuracy"][0] == 0.5
    assert judgement.classes[1].precision.value == 0
    assert np.isnan(judgement.classes[2].auc).all()
    assert np.isnan(judgement.classes[2].recall).all()
    single_class = evaluation.judge(np.zeros(4, int), probabilities, resamples=20).metrics["auc"]
    assert np.isnan(single_class).all()


def test_calibration_by_hand():
    # Two images at 90 %, one correct: gap .4. Two at 60 %, both correct: gap .4.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    curve = evaluation.reliability(np.array([0, 1, 0, 0]), probabilities)
    assert curve.confidence.tolist() == pytest.approx([0.6, 0.9])
    assert curve.accuracy.tolist() == [1.0, 0.5]
    assert curve.count.tolist() == [2, 2]
    assert curve.expected_calibration_error == pytest.approx(0.4)


def test_the_calibration_error_of_judge_is_that_of_the_curve(classified):
    judgement = evaluation.judge(*classified, resamples=10)
    assert judgement.metrics["expected_calibration_error"][0] == pytest.approx(
        judgement.calibration.expected_calibration_error
    )


def test_mcnemar_by_hand():
    # 9 images that only the first classifies correctly, 1 that only the second does: p = 2 * (1 + 10) / 2^10.
    first = np.array([True] * 9 + [False] + [True] * 50)
    second = np.array([False] * 9 + [True] + [True] * 50)
    assert evaluation.mcnemar(first, second) == (9, 1, pytest.approx(22 / 1024))
    assert evaluation.mcnemar(first, first) == (0, 0, 1.0)


def test_the_counts_of_classes_give_the_metrics_of_the_whole_matrix(classified):
    labels, probabilities = classified
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    weights = np.random.default_rng(0).integers(0, 3, (4, len(labels))).astype(float)
    matrices = confusion_matrix(labels, predicted, classes, weights)
    counts = class_counts(labels, predicted, classes, weights)
    for name, metric in METRICS.items():
        np.testing.assert_allclose(metric(counts), metric(matrices), err_msg=name)


def test_quadratic_kappa_by_hand():
    # True grades 0 0 1 2, predicted 0 1 1 2: the mean squared difference is 1/4. Of independent draws from both: true
    # 0 0 1 2 and predicted 0 1 1 2 differ by squares that sum to 20 over 16 pairs. Kappa is 1 - (1/4) / (20/16) = 4/5.
    found = evaluation.judge(np.array([0, 0, 1, 2]), np.eye(3)[[0, 1, 1, 2]], ordered=True, resamples=10)
    assert found.metrics["quadratic_kappa"].value == pytest.approx(4 / 5)
    assert found.ordered


def test_quadratic_kappa_equals_scikit_learns_with_and_without_weights(classified):
    labels, probabilities = classified
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    weights = np.random.default_rng(0).integers(0, 3, (5, len(labels))).astype(float)
    weights[0] = 1
    expected = [
        sklearn_metrics.cohen_kappa_score(labels, predicted, weights="quadratic", sample_weight=row) for row in weights
    ]
    np.testing.assert_allclose(quadratic_kappa(labels, predicted, classes, weights), expected)


def test_the_interval_of_quadratic_kappa_is_that_of_scikit_learns_on_the_same_resamples(classified):
    labels, probabilities = classified
    found = evaluation.judge(labels, probabilities, ordered=True, resamples=40, seed=3)
    samples = [
        sklearn_metrics.cohen_kappa_score(labels, probabilities.argmax(axis=1), weights="quadratic", sample_weight=row)
        for chunk in resampled_weights(len(labels), 40, seed=3)
        for row in chunk
    ]
    assert found.metrics["quadratic_kappa"][1:] == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])))


def test_a_grade_that_is_far_off_costs_more_than_its_neighbour():
    labels = np.repeat(np.arange(5), 10)
    kappas = []
    for wrong in (1, 4):
        predicted = labels.copy()
        predicted[:3] = wrong
        kappas.append(evaluation.judge(labels, np.eye(5)[predicted], ordered=True, resamples=10).metrics)
    assert kappas[0]["quadratic_kappa"].value > kappas[1]["quadratic_kappa"].value + 0.1
    assert kappas[0]["accuracy"].value == kappas[1]["accuracy"].value


def test_quadratic_kappa_is_none_for_one_class_and_left_out_where_classes_have_no_order():
    one = evaluation.judge(np.zeros(4, int), np.eye(3)[[0] * 4], ordered=True, resamples=10)
    assert np.isnan(one.metrics["quadratic_kappa"]).all()
    assert "quadratic_kappa" not in evaluation.judge(np.zeros(4, int), np.eye(3)[[0] * 4], resamples=10).metrics
