"""The loss of several labels an image, and its weights, beside scikit-learn's."""

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from keras_vision import evaluation, training
from keras_vision.recipe import InputError, TrainingSpec
from keras_vision.training.several_labels import LabelsCrossentropy, label_weights

RNG = np.random.default_rng(0)
LABELS = (RNG.random((50, 3)) < (0.5, 0.2, 0.1)).astype(np.float32)
LOGITS = RNG.normal(0, 2, (50, 3)).astype(np.float32)


def loss_of(weights=None, **values):
    loss = LabelsCrossentropy(weights, **values)
    return float(keras.ops.convert_to_numpy(loss(keras.ops.convert_to_tensor(LABELS), LOGITS)))


@pytest.mark.backend
def test_the_loss_is_the_mean_log_loss_of_the_labels():
    scores = evaluation.sigmoid(LOGITS)
    expected = np.mean([log_loss(LABELS[:, k], scores[:, k], labels=[0, 1]) for k in range(3)])
    assert loss_of() == pytest.approx(expected, rel=1e-5)
    balanced = [compute_sample_weight("balanced", LABELS[:, k]) for k in range(3)]
    weighted = [
        np.mean(balanced[k] * -np.log(np.where(LABELS[:, k], scores[:, k], 1 - scores[:, k]))) for k in range(3)
    ]
    assert loss_of(label_weights(LABELS, "balanced")) == pytest.approx(np.mean(weighted), rel=1e-5)
    smooth = 0.8 * LABELS + 0.1
    expected = -np.mean(smooth * np.log(scores) + (1 - smooth) * np.log(1 - scores))
    assert loss_of(label_smoothing=0.2) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("setting", ["balanced", "0.5", "0.2"])
def test_weights_have_a_mean_of_1(setting):
    yes, no = np.array(label_weights(LABELS, setting))
    np.testing.assert_allclose(np.where(LABELS, yes, no).mean(axis=0), 1, rtol=1e-6)
    assert yes[2] / no[2] > yes[0] / no[0]
    assert label_weights(LABELS, "none") is None


def test_a_saved_loss_is_the_same():
    loss = LabelsCrossentropy(label_weights(LABELS, "balanced"), 0.1)
    again = LabelsCrossentropy.from_config(loss.get_config())
    assert again.get_config() == loss.get_config()


def test_logits_of_labels_are_not_adjusted_to_frequencies():
    with pytest.raises(InputError, match="--logit-adjustment is for one class an image"):
        training.compile_model(
            keras.Sequential([keras.layers.Dense(3)]),
            TrainingSpec(logit_adjustment=1.0),
            steps_per_epoch=1,
            labels=LABELS,
        )
