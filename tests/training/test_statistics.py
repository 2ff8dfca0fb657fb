"""Statistics of normalizations behind dropout, re-estimated without it."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import models, training
from keras_vision.data import Batches, Split
from keras_vision.recipe import ModelSpec, TrainingSpec
from keras_vision.training import statistics

pytestmark = pytest.mark.backend

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(40) % 2


def network(rate=0.5, trainable=True):
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 3))
    x = layers.Dropout(rate)(layers.Conv2D(6, 3)(layers.Rescaling(1 / 255)(images)))
    x = layers.BatchNormalization(name="first", momentum=0.5, trainable=trainable)(x)
    x = layers.BatchNormalization(name="second", axis=-1)(layers.ReLU()(layers.Conv2D(4, 3)(x)))
    return keras.Model(images, layers.Dense(2, name="logits")(layers.GlobalAveragePooling2D()(x)))


def outputs_before(model, name):
    before = keras.Model(model.input, model.get_layer(name).input)
    return np.asarray(before.predict(IMAGES.astype("float32"), verbose=0), np.float64)


def test_each_normalization_has_the_statistics_of_what_it_sees():
    model = network()
    training.reestimate_statistics(model, IMAGES)
    for name in ("first", "second"):  # The second sees what the first makes with its new statistics.
        seen, layer = outputs_before(model, name), model.get_layer(name)
        np.testing.assert_allclose(layer.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3)


def test_in_parts_they_are_nearly_the_same(monkeypatch):
    whole, parts = network(), network()
    training.reestimate_statistics(whole, IMAGES)
    monkeypatch.setattr(statistics, "VALUES", 10 * 8 * 8 * 6)
    training.reestimate_statistics(parts, IMAGES)
    first, other = (model.get_layer("first").moving_variance for model in (whole, parts))
    np.testing.assert_allclose(other, first, rtol=1e-4)
    first, other = (np.asarray(model.get_layer("second").moving_variance) for model in (whole, parts))
    assert (first != other).any()
    np.testing.assert_allclose(other, first, rtol=0.05)


def test_normalizations_of_nested_models_and_of_two_calls_are_among_them():
    keras.utils.set_random_seed(0)
    images, maps = keras.Input((8, 8, 3)), keras.Input((8, 8, 4))
    twice = layers.BatchNormalization(name="twice")
    nested = keras.Model(maps, layers.BatchNormalization(name="within")(layers.Conv2D(5, 3)(maps)))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(layers.Dropout(0.5)(layers.Rescaling(1 / 255)(images)))
    first = twice(x)
    last = twice(layers.Rescaling(3.0, name="tripled")(first))
    model = keras.Model(images, layers.Dense(2)(layers.Flatten()(nested(last))))
    training.reestimate_statistics(model, IMAGES)

    def seen(tensor):
        return np.asarray(keras.Model(images, tensor).predict(IMAGES.astype("float32"), verbose=0), np.float64)

    within = nested.get_layer("within")
    maps = np.asarray(keras.Model(maps, within.input).predict(seen(last), verbose=0))
    assert not np.allclose(within.moving_variance, 1, atol=0.1)
    assert np.isfinite(maps).all()
    before = seen(x)
    unit = (before - before.mean(axis=(0, 1, 2))) / np.sqrt(before.var(axis=(0, 1, 2)) + twice.epsilon)
    both = np.concatenate([before, 3 * unit])
    np.testing.assert_allclose(twice.moving_mean, both.mean(axis=(0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(twice.moving_variance, both.var(axis=(0, 1, 2)), rtol=1e-2)


def test_normalizations_that_do_not_learn_keep_theirs():
    model = network(trainable=False)
    before = model.get_layer("first").get_weights()
    training.reestimate_statistics(model, IMAGES)
    for one, other in zip(model.get_layer("first").get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("model", "needed"),
    [
        (lambda: network(), True),
        (lambda: network(rate=0.0), False),
        (lambda: models.build(ModelSpec("plain_cnn", width=2), (16, 16, 3), 2), True),
        (lambda: models.build(ModelSpec("resnet18", width=2, head_dropout=0.5), (16, 16, 3), 2), False),
    ],
)
def test_networks_with_dropout_before_a_normalization_need_them(model, needed):
    assert training.reestimates_statistics(model(), TrainingSpec()) == needed
    assert not training.reestimates_statistics(model(), TrainingSpec(true_statistics=False))


@pytest.mark.parametrize(("chosen", "average"), [(None, 0.9), (False, 0.0)])
def test_validation_and_the_finished_network_are_without_dropouts_noise(chosen, average):
    """The moving statistics alone would be those of activations with dropout, four times their variance."""
    batches, val = Batches(Split(IMAGES, LABELS), 2, 8), Batches(Split(IMAGES[:16], LABELS[:16]), 2, 16)
    model = network(rate=0.75)
    spec = TrainingSpec(
        epochs=2, schedule="constant", patience=0, ema_momentum=average, true_statistics=chosen, learning_rate=0.01
    )
    history = training.fit(model, batches, val, spec)
    seen = outputs_before(model, "first").var(axis=(0, 1, 2))
    found = np.asarray(model.get_layer("first").moving_variance)
    assert np.allclose(found, seen, rtol=1e-3) == (chosen is None)
    loss = model.evaluate(val, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(history.epochs[-1]["val_loss"], rel=1e-3)
