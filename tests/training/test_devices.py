"""A training divided among devices: the numbers of one device; of processes: it survives them, bit by bit.

JAX must be told of devices before it is used, so trainings run in processes of their own: this file, called with
arguments.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
import keras
from keras import layers

from keras_vision import training
from keras_vision.data import Batches
from keras_vision.data.splits import Split
from keras_vision.recipe import AugmentationSpec, InputError, TrainingSpec
from keras_vision.training import devices, joint_checkpoints
from keras_vision.training.checkpoint import Checkpoints

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX divides a training"),
]

COUNT, STEPS, EPOCHS = 37, 4, 4
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1), dtype=np.uint8)
TRAIN, VAL = Split(IMAGES, np.arange(COUNT) % 2), Split(IMAGES[:11], np.arange(11) % 2)
PLAIN = {"epochs": EPOCHS, "batch_size": 10, "learning_rate": 0.01, "patience": 0}
MANY = {"ema_momentum": 0.9, "class_weight": "balanced", "patience": 2, "true_statistics": True}


def network(normalized=True):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, use_bias=not normalized)(layers.Rescaling(1 / 255)(inputs))
    x = layers.ReLU()(layers.BatchNormalization()(x) if normalized else x)
    return keras.Model(inputs, layers.Dense(2)(layers.Dropout(0.3)(layers.Flatten()(x))))


def fit(fields, *, normalized=True, checkpoints=None, callbacks=()):
    """The weights of a training, and its losses."""
    model = network(normalized)
    augmentation = AugmentationSpec(horizontal_flip=True, mixup=0.2)
    batches = Batches(TRAIN, 2, 10, augmentation=augmentation, shuffle=True)
    spec = TrainingSpec(**PLAIN | fields)
    history = training.fit(model, batches, Batches(VAL, 2, 5), spec, checkpoints=checkpoints, callbacks=callbacks)
    return model, [[epoch["loss"], epoch["val_loss"], epoch["val_accuracy"]] for epoch in history.epochs]


class Kill(keras.callbacks.Callback):
    """Sends this process a signal in the third epoch."""

    def __init__(self, number):
        super().__init__()
        self.number = (number,)

    def on_epoch_begin(self, epoch, logs=None):
        self.now = (epoch,)

    def on_train_batch_end(self, batch, logs=None):
        if self.now == (2,) and batch == 0 and self.number[0]:
            os.kill(os.getpid(), self.number[0])


def two_devices():
    """Prints the largest differences from one device, for each training."""
    for name, fields in (("plain", {"optimizer": "sgd"}), ("many", MANY)):
        normalized = name != "plain"
        with devices.using(2) as used:
            assert used.names == ("cpu:0", "cpu:1")
            model, losses = fit(fields, normalized=normalized)
        alone, expected = fit(fields, normalized=normalized)
        pairs = zip(model.get_weights(), alone.get_weights(), strict=True)
        weights = max(float(np.abs(a - b).max()) for a, b in pairs)
        print(name, weights, float(np.abs(np.subtract(losses, expected)).max()))
        assert model(IMAGES[:3]).shape == (3, 2)  # On one device again.


def one_of_two(process, coordinator, folder, number):
    """One process of two; prints the digest of its weights."""
    joint_checkpoints.STEPS_BETWEEN_QUESTIONS = 2
    with devices.using(1, processes=2, process=process, coordinator=coordinator):
        with training.Interrupt() as interrupt:
            checkpoints = Checkpoints(Path(folder), 0.0, interrupt) if process == 0 else None
            try:
                model, _ = fit(MANY, checkpoints=checkpoints, callbacks=[Kill(number)])
            except training.ProcessLost as lost:
                print("lost", lost.saved, flush=True)
                devices.leave(1)
            except training.Interrupted as told:
                print("stopped", told.signal, told.saved, flush=True)
                return
        weights = b"".join(np.asarray(weight).tobytes() for weight in model.get_weights())
        print("digest", hashlib.sha256(weights).hexdigest(), flush=True)


def call(*words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def both(folder, number=0):
    """The last lines of two processes that train together, and their exit statuses; the second gets a signal."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        coordinator = f"localhost:{found.getsockname()[1]}"
    started = [call(process, coordinator, folder, number * process) for process in (0, 1)]
    printed = [process.communicate() for process in started]
    codes = [process.returncode for process in started]
    return [(out.splitlines() or [errors])[-1] for out, errors in printed], codes


def test_two_devices_have_the_numbers_of_one():
    # Batches that two do not divide, mixup, dropout, averaged weights, class weights, early stopping, statistics.
    process = call()
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    lines = [line.split() for line in out.splitlines() if line.startswith(("plain", "many"))]
    found = {name: max(map(float, numbers)) for name, *numbers in lines}
    assert found.keys() == {"plain", "many"}
    assert found["plain"] < 1e-6
    assert found["many"] < 1e-4  # Adam divides by the size of gradients, so it enlarges the rounding of small ones.


@pytest.mark.slow
def test_processes_that_die_or_are_told_to_stop_lose_nothing(tmp_path):
    (first, second), codes = both(tmp_path / "whole")
    assert first == second
    assert codes == [0, 0]
    (lost, _), codes = both(tmp_path / "parts", signal.SIGKILL)
    assert lost == f"lost epoch 2 of {EPOCHS}"
    assert codes == [1, -signal.SIGKILL]
    (leader, other), codes = both(tmp_path / "parts", signal.SIGTERM)
    assert leader == f"stopped 15 epoch 3 of {EPOCHS}, step 2"
    assert other.startswith("stopped 15")
    assert both(tmp_path / "parts") == ([first, first], [0, 0])


def test_what_cannot_be_divided_is_refused(monkeypatch):
    assert keras.ops.ones(1).shape == (1,)  # JAX is in use and has one device.
    with pytest.raises(InputError, match="--devices 99 needs so many devices in each process"), devices.using(99):
        pass
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with (
        pytest.raises(InputError, match="on JAX only: add --backend jax. Received: the backend torch"),
        devices.using(2),
    ):
        pass
    assert devices.current().count == 1
    monkeypatch.setattr(devices, "_current", devices.Devices(("cpu:0", "cpu:1", "cpu:2")))
    with pytest.raises(InputError, match="--batch-size, .* multiple of their number. Received: 10 and 3 devices"):
        devices.shares(Batches(TRAIN, 2, 10))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        two_devices()
    else:
        one_of_two(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
