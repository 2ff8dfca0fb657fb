"""A training that is killed or interrupted goes on and ends with the same numbers, bit by bit."""

import dataclasses
import signal

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import training
from keras_vision.data import Batches
from keras_vision.data.splits import Split
from keras_vision.files import state_file
from keras_vision.recipe import AugmentationSpec, InputError, TrainingSpec
from keras_vision.training import checkpoint, resuming, state
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
        if isinstance(self.how[0], int):
            signal.raise_signal(self.how[0])
        else:
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


@pytest.mark.parametrize("name", ["adam, averaged", "early stopping, plateau"])
def test_an_interruption_in_the_last_step_of_all_changes_nothing(name, tmp_path):
    expected = train(SPECS[name])
    last = len(expected[1].epochs) - 1
    assert (last < EPOCHS - 1) == ("stopping" in name), "the training must end in the way that is tested"
    interrupt = Interrupt()
    with pytest.raises(Interrupted):
        train(SPECS[name], tmp_path, kill=(last, STEPS - 1, interrupt), interrupt=interrupt)
    assert_same(train(SPECS[name], tmp_path), expected)


def test_a_finished_training_is_not_repeated(tmp_path, capsys):
    expected = train(SPECS["adam, averaged"], tmp_path)
    capsys.readouterr()
    session = train(SPECS["adam, averaged"], tmp_path)
    assert_same(session, expected)
    assert session[1].seconds == expected[1].seconds
    assert capsys.readouterr().out == "The training is finished: 5 epochs.\n"


def test_a_state_of_another_model_is_refused(tmp_path):
    with pytest.raises(Killed):
        train({}, tmp_path, kill=(1, 0))
    with pytest.raises(ValueError, match="another model, optimizer or recipe"):
        train({"optimizer": "sgd"}, tmp_path)


# Each part of a state, a recipe in which it decides something, and where the process ends: epoch, step, and whether
# it is interrupted, with time to save in the middle of the epoch, or killed.
PARTS = {
    "model": ("adam, averaged", 2, 0, False),
    "optimizer": ("adam, averaged", 2, 0, False),
    "metrics": ("adam, averaged", 2, 1, True),
    "seed_generator": ("adam, averaged", 2, 0, False),
    "torch_generator": ("adam, averaged", 2, 0, False),
    "best": ("early stopping, plateau", 3, 0, False),
    "stopped": ("early stopping, plateau", 3, STEPS - 1, True),
    "EpochLog": ("adam, averaged", 2, 0, False),
    "SwapEMAWeights": ("adam, averaged", 2, 0, False),
    "EarlyStopping": ("early stopping, plateau", 2, 0, False),
    "ReduceLROnPlateau": ("early stopping, plateau", 2, 0, False),
}
# Keras's dropout draws from torch's own generator there.
DRAWN_FROM = {"torch": "torch_generator", "jax": "seed_generator", "tensorflow": "seed_generator"}


def leave_out(part, monkeypatch):
    """Lets `restore` leave one part as a new process has it."""
    assign, restore = state._assign, resuming.restore

    def assign_others(groups, arrays):
        kept = {
            f"{group}/{number}": np.array(keras.ops.convert_to_numpy(variable))
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
            if part in variable.path or (part == group and "seed_generator" not in variable.path)
        }
        assign(groups, arrays | kept)

    def restore_others(model, callbacks, saved):
        named = zip(callbacks, saved.callbacks, strict=True)
        memories = [{} if type(callback).__name__ == part else memory for callback, memory in named]
        best = {} if part == "best" else saved.best
        restore(model, callbacks, dataclasses.replace(saved, callbacks=memories, best=best))

    monkeypatch.setattr(state, "_assign", assign_others)
    monkeypatch.setattr(resuming, "restore", restore_others)
    if part == "torch_generator":
        monkeypatch.setattr(state.torch_state, "restore_generator", lambda states: None)
    if part == "stopped":
        load = Checkpoints.load
        monkeypatch.setattr(
            Checkpoints, "load", lambda self: (dataclasses.replace(load(self)[0], stopped=False), load(self)[1])
        )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="JAX and torch show it in half of the time")
def test_without_any_part_of_its_state_a_training_ends_differently(part, tmp_path, monkeypatch):
    name, epoch, step, interrupted = PARTS[part]
    if part in DRAWN_FROM.values() and part != DRAWN_FROM[keras.backend.backend()]:
        pytest.skip("this backend draws from another generator")
    if keras.backend.backend() == "jax" and part not in DRAWN_FROM.values():
        pytest.skip("torch shows it without compiling")
    expected = train(SPECS[name])
    interrupt = Interrupt() if interrupted else None
    with pytest.raises((Killed, Interrupted)):
        train(SPECS[name], tmp_path, kill=(epoch, step, interrupt), interrupt=interrupt)
    leave_out(part, monkeypatch)
    with pytest.raises(AssertionError):
        assert_same(train(SPECS[name], tmp_path), expected)


def test_signals_wait_for_the_step_in_a_training_and_stop_at_once_elsewhere(tmp_path, capsys):
    with Interrupt() as interrupt:
        with pytest.raises(Interrupted) as stopped:
            train({}, tmp_path, kill=(1, 1, signal.SIGTERM), interrupt=interrupt)
        assert (stopped.value.signal, stopped.value.saved) == (signal.SIGTERM, "epoch 2 of 5, step 2")
        assert "Stopping after this step" in capsys.readouterr().err
        with pytest.raises(Interrupted) as stopped:
            signal.raise_signal(signal.SIGINT)
        assert (stopped.value.signal, stopped.value.saved) == (signal.SIGINT, None)
        assert isinstance(stopped.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_stops_at_once():
    with Interrupt() as interrupt, interrupt.deferred():
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.requested == signal.SIGTERM
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(tmp_path, capsys):
    expected = train({})
    with pytest.raises(Killed):
        train({}, tmp_path, kill=(3, 0))
    newest = tmp_path / checkpoint.NEWEST
    newest.write_bytes(newest.read_bytes()[:-1])
    session = train({}, tmp_path)
    assert_same(session, expected)
    output = capsys.readouterr()
    assert "Resuming after epoch 2 of 5." in output.out
    assert "is not complete. Going on from the checkpoint before" in output.err


def test_best_weights_that_no_checkpoint_needs_are_removed(tmp_path):
    spec = {"patience": 9}
    with pytest.raises(Killed):
        train(spec, tmp_path, kill=(4, 0))
    files = {path.name for path in tmp_path.iterdir()}
    assert files >= {checkpoint.NEWEST, checkpoint.BEFORE}
    assert 1 <= len(files - {checkpoint.NEWEST, checkpoint.BEFORE}) <= 2
    train(spec, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FINISHED]


def test_a_training_ends_although_its_checkpoints_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert_same(train({}, tmp_path / "file"), train({}))
    error = capsys.readouterr().err
    assert error.count("No checkpoint can be written") == 1
    assert str(tmp_path / "file") in error


def test_the_finished_training_takes_the_room_of_its_checkpoints(tmp_path, monkeypatch):
    """On a disk that is full as long as they are there."""
    write = state_file.write

    def write_if_there_is_room(path, *arguments, **keywords):
        if path.name == checkpoint.FINISHED and (tmp_path / checkpoint.NEWEST).exists():
            raise OSError(28, "No space left on device")
        return write(path, *arguments, **keywords)

    monkeypatch.setattr(state_file, "write", write_if_there_is_room)
    expected = train({}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FINISHED]
    assert_same(train({}, tmp_path), expected)


def test_a_training_that_came_to_nothing_leaves_no_checkpoint(tmp_path):
    batches = Batches(TRAIN, 2, 10)
    batches._one_hot = batches._one_hot * np.float32(np.nan)
    with pytest.raises(InputError, match="no longer a finite number"):
        train({}, tmp_path / "training", batches=batches)
    assert not (tmp_path / "training").exists()
