import keras
import numpy as np
import pytest

from keras_vision import data, models, training
from keras_vision.recipe import ModelSpec, TrainingSpec

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def batches(lesions):
    return data.Batches(data.Split(lesions.train.images[:40], lesions.train.labels[:40]), 7, 16, shuffle=True, seed=1)


def made(architecture="basic_cnn", **values):
    keras.utils.set_random_seed(0)
    model = models.build(ModelSpec(architecture, width=4, dropout_scale=0.0), (28, 28, 3), 7)
    training.compile_model(model, TrainingSpec(optimizer="sgd", learning_rate=0.05, **values), steps_per_epoch=3)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("architecture", ["basic_cnn", "plain_cnn"])
def test_the_loop_gives_the_weights_of_train_on_batch(batches, architecture):
    """With batch normalization too, whose statistics are no trainable variables."""
    keras_model, own_model = made(architecture, weight_decay=0.01), made(architecture, weight_decay=0.01)
    step = training.STEPS[BACKEND](own_model)
    for epoch in range(2):
        batches.start_epoch(epoch)
        for images, labels in (batches[index] for index in range(len(batches))):
            expected = keras_model.train_on_batch(images, labels, return_dict=True)["loss"]
            keras_model.reset_metrics()
            assert step(images, labels) == pytest.approx(float(expected), abs=1e-5)
    for weight, expected in zip(own_model.get_weights(), keras_model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-5, atol=1e-6)
    assert int(keras.ops.convert_to_numpy(own_model.optimizer.iterations)) == 6


def test_predictions_are_those_of_predict_and_follow_the_weights(batches):
    model = made("plain_cnn")
    predict = training.PREDICTIONS[BACKEND](model)
    images, labels = batches[0]
    before = predict(images)
    np.testing.assert_allclose(before, model.predict(images, verbose=0), atol=1e-5)
    training.STEPS[BACKEND](model)(images, labels)
    assert np.abs(predict(images) - before).max() > 1e-3
    np.testing.assert_allclose(predict(images), model.predict(images, verbose=0), atol=1e-5)


def test_every_backend_has_its_loop():
    assert training.STEPS.keys() == training.PREDICTIONS.keys() == {"jax", "tensorflow", "torch"}
