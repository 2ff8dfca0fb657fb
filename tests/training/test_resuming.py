"""A training that is killed or interrupted goes on and ends with the same numbers, bit by bit."""

import signal

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import training
from keras_vision.data import Batches
from keras_vision.data.splits import Split
from keras_vision.recipe import AugmentationSpec, TrainingSpec
from keras_vision.training.checkpoint import Checkpoints
from keras_vision.training.interrupt import Interrupt, Interrupted

pytestmark = pytest.mark.backend

EPOCHS, STEPS = 5, 4
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (38, 8, 8, 1), dtype=np.uint8)
LABELS = np.arange(38) % 2
TRAIN, VAL = Split(IMAGES, LABELS), Split(IMAGES[:10], 1 - LABELS[:10])
PLAIN = {"epochs": EPOCHS, "batch_size": 10, "learning_rate": 0.01, "patience": 0}
SPECS = {
    "sgd, step": {"optimizer": "sgd", "schedule": "step", "step_epochs": 2},
    "adam, averaged": {"ema_momentum": 0.9},
    "adamw, cosine": {"optimizer": "adamw", "schedule": "cosine", "weight_decay": 0.1, "class_weight": "balanced"},
    # The labels of the validation split are wrong, so its loss rises: the best epoch is early, the rate is cut.
    "early stopping, plateau": {"patience": 3, "schedule": "plateau", "plateau_patience": 1},
}


class Killed(Exception):
    pass


class Kill(keras.callbacks.Callback):
    """Ends a training at a step, with or without time to save."""

    def __init__(self, epoch=None, step=0, interrupt=None):
        super().__init__()
        # Tuples are no part of a checkpoint: the next session dies elsewhere.
        self.at, self.how = (epoch, step), (interrupt,)

    def on_epoch_begin(self, epoch, logs=None):
        self.now = (epoch,)

    def on_train_batch_end(self, batch, logs=None):
        if (*self.now, batch) != self.at:
            return
        if self.how[0] is None:
            raise Killed
        self.how[0].requested = signal.SIGTERM


def network():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, use_bias=False)(x))
    x = layers.Dropout(0.3)(layers.Flatten()(layers.ReLU()(x)))
    return keras.Model(inputs, layers.Dense(2)(x))


def train(fields, folder=None, *, kill=(), interrupt=None, batches=None):
    """Weights and history of one session."""
    model = network()
    augmentation = AugmentationSpec(horizontal_flip=True, mixup=0.2)
    train = batches or Batches(TRAIN, 2, 10, augmentation=augmentation, shuffle=True)
    interrupt = interrupt or Interrupt()
    checkpoints = None if folder is None else Checkpoints(folder, 0.0, interrupt)
    spec = TrainingSpec(**PLAIN | fields)
    extra = [Kill(*kill)] if folder is not None else [Kill()]
    history = training.fit(model, train, Batches(VAL, 2, 10), spec, callbacks=extra, checkpoints=checkpoints)
    return model.get_weights(), history


def timeless(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history.epochs]


def assert_same(session, expected):
    assert timeless(session[1]) == timeless(expected[1])
    assert session[1].best_epoch == expected[1].best_epoch
    for one, other in zip(session[0], expected[0], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", SPECS)
def test_a_training_that_was_killed_twice_and_interrupted_twice_is_the_uninterrupted_one(name, tmp_path, capsys):
    expected = train(SPECS[name])
    with pytest.raises(Killed):
        train(SPECS[name], tmp_path, kill=(1, 1))
    interrupt = Interrupt()
    with pytest.raises(Interrupted) as stopped:
        train(SPECS[name], tmp_path, kill=(1, 2, interrupt), interrupt=interrupt)
    assert stopped.value.saved == "epoch 2 of 5, step 3"
    interrupt = Interrupt()
    with pytest.raises(Interrupted):  # In the last step of the epoch: after its validation.
        train(SPECS[name], tmp_path, kill=(1, 0, interrupt), interrupt=interrupt)
    with pytest.raises(Killed):
        train(SPECS[name], tmp_path, kill=(3, 0))
    session = train(SPECS[name], tmp_path)
    assert_same(session, expected)
    printed = capsys.readouterr().out
    assert "Resuming after epoch 1 of 5." in printed
    assert "Resuming after epoch 2 of 5, step 3." in printed
    assert "Resuming after epoch 3 of 5." in printed
