"""Batches that go straight into TensorFlow's step: the same numbers, each batch made once and in its epoch's order."""

import contextlib
import importlib
import threading

import keras
import numpy as np
import pytest

from keras_vision import training
from keras_vision.data import Batches, Split
from keras_vision.recipe import TrainingSpec

direct_batches = importlib.import_module("keras_vision.training.direct_batches")
pytestmark = pytest.mark.backend

rng = np.random.default_rng(0)
SPLIT = Split(rng.integers(0, 256, (38, 8, 8, 1), dtype=np.uint8), np.arange(38) % 3)


class Watched(Batches):
    """Batches that remember what was asked for, and by which thread."""

    def __init__(self, *arguments, **settings):
        self.asked = []
        super().__init__(*arguments, **settings)

    def start_epoch(self, epoch):
        super().start_epoch(epoch)
        self.asked.append(f"epoch {epoch}")

    def __getitem__(self, index):
        self.asked.append((index, threading.current_thread() is threading.main_thread()))
        return super().__getitem__(index)


def fitted(**knobs):
    keras.utils.set_random_seed(0)
    images = keras.Input((8, 8, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(images))
    x = keras.layers.Dropout(0.2)(keras.layers.Flatten()(keras.layers.ReLU()(x)))
    model = keras.Model(images, keras.layers.Dense(3)(x))
    train = Watched(SPLIT, 3, 8, shuffle=True)  # The last batch has 6 images.
    spec = TrainingSpec(epochs=2, patience=0, **knobs)
    history = training.fit(model, train, Batches(SPLIT, 3, 38), spec)
    values = [np.array(keras.ops.convert_to_numpy(value)) for value in [*model.variables, *model.optimizer.variables]]
    return values, history, train.asked


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
@pytest.mark.parametrize("worth", [0.0, np.inf])
def test_a_training_has_the_same_numbers(monkeypatch, class_weight, worth):
    monkeypatch.setattr(direct_batches, "WORTH_A_THREAD", worth)
    values, history, _ = fitted(class_weight=class_weight)
    fit = importlib.import_module("keras_vision.training.fit")
    monkeypatch.setattr(fit, "direct_batches", lambda *arguments, **settings: contextlib.nullcontext())
    expected, expected_history, _ = fitted(class_weight=class_weight)
    for mine, theirs in zip(values, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(history.epochs, expected_history.epochs, strict=True):
        assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the other backends have no tf.data")
@pytest.mark.parametrize(("worth", "threads"), [(0.0, {True, False}), (np.inf, {True})])
def test_each_batch_is_made_once_and_after_its_epoch_began(monkeypatch, worth, threads):
    monkeypatch.setattr(direct_batches, "WORTH_A_THREAD", worth)
    asked = fitted()[2]
    epochs = asked[asked.index("epoch 0", 1) :]
    assert [part if isinstance(part, str) else part[0] for part in epochs] == [
        *("epoch 0", 0, 1, 2, 3, 4),
        *("epoch 1", 0, 1, 2, 3, 4),
    ]
    assert {part[1] for part in epochs if not isinstance(part, str)} == threads


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the other backends have no tf.data")
def test_the_models_own_step_is_back_afterwards():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.make_train_function()
    own = model.train_function
    with direct_batches.direct_batches(model, None, None):
        assert model.train_function is not own
    assert model.train_function is own
    with direct_batches.direct_batches(model, None, None, enabled=False):
        assert model.train_function is own
