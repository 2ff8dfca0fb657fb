"""The mean of several networks' probabilities, as one network."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import evaluation, models

pytestmark = pytest.mark.backend

IMAGES = np.random.default_rng(0).uniform(0, 255, (5, 6, 6, 1)).astype(np.float32)


def member(seed, name="same"):
    keras.utils.set_random_seed(seed)
    images = keras.Input((6, 6, 1), name="images")
    return keras.Model(images, layers.Dense(3, name="logits")(layers.Flatten()(images)), name=name)


def test_it_is_the_mean_of_the_members_and_can_be_saved(tmp_path):
    members = [member(seed) for seed in range(3)]
    ensemble = models.averaged(members)
    expected = np.mean([evaluation.softmax(one.predict(IMAGES, verbose=0)) for one in members], axis=0)
    np.testing.assert_allclose(np.exp(ensemble.predict(IMAGES, verbose=0)), expected, rtol=1e-4, atol=1e-7)
    ensemble.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(evaluation.softmax(again.predict(IMAGES, verbose=0)), expected, rtol=1e-4, atol=1e-7)


def test_members_that_are_sure_of_one_class_leave_no_infinite_logits():
    sure = member(0)
    sure.get_layer("logits").set_weights([np.zeros((36, 3)), np.array([1000.0, 0.0, 0.0])])
    assert np.isfinite(models.averaged([sure, sure]).predict(IMAGES, verbose=0)).all()
