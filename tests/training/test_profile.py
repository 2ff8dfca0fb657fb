"""The profile by a clock that data, steps and callbacks move by known times, and what it leaves behind: nothing."""

import keras
import numpy as np
import pytest

from keras_vision import training
from keras_vision.data import Batches, Split
from keras_vision.recipe import TrainingSpec
from keras_vision.training.profile import Profile, _measure

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(32, 4, 4, 1)).astype("float32")
LABELS = np.eye(2, dtype="float32")[np.arange(32) % 2]
BATCHES = [(IMAGES[start : start + 8], LABELS[start : start + 8]) for start in range(0, 32, 8)]
PARTS = ["waiting for data", "training step", "validation", "callbacks"]


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


class Timed(keras.utils.PyDataset):
    """Batches that take a fixed time each, the last one smaller than the others."""

    def __init__(self, clock, seconds, sizes=(8, 8, 8, 8, 4)):
        super().__init__()
        self.clock, self.seconds, self.sizes, self.epochs = clock, seconds, sizes, []

    def start_epoch(self, epoch):
        self.epochs.append(epoch)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        self.clock.seconds += self.seconds
        return IMAGES[: self.sizes[index]], LABELS[: self.sizes[index]]


class TimedCallback(keras.callbacks.Callback):
    def __init__(self, clock, batch=0.0, epoch=0.0):
        super().__init__()
        self.clock, self.batch, self.epoch, self.calls = clock, batch, epoch, []

    def on_epoch_begin(self, epoch, logs=None):
        self.clock.seconds += self.epoch
        self.calls.append("begin")

    def on_train_batch_end(self, batch, logs=None):
        self.clock.seconds += self.batch
        self.calls.append((batch, sorted(logs)))

    def on_epoch_end(self, epoch, logs=None):
        self.clock.seconds += self.epoch
        self.calls.append(("end", sorted(logs)))


class Model:
    """A model whose steps take a fixed time, and ten times as long for a new batch shape: compilation."""

    def __init__(self, clock, step=0.0, test=0.0):
        self.clock, self.seconds, self.shapes = clock, {"train": step, "test": test}, set()
        self.steps = 0

    def _run(self, kind, images):
        known = (kind, images.shape) in self.shapes
        self.clock.seconds += self.seconds[kind] * (1 if known else 10)
        self.shapes.add((kind, images.shape))
        return {"accuracy": 0.5, "loss": 1.0}

    def train_on_batch(self, images, labels, return_dict):
        self.steps += 1
        return self._run("train", images)

    def test_on_batch(self, images, labels, return_dict):
        return self._run("test", images)


def measured(*, data=0.0, step=0.0, test=0.0, batch=0.0, epoch=0.0, val=None, steps=None):
    clock = Clock()
    batches, callback = Timed(clock, data), TimedCallback(clock, batch, epoch)
    val_batches = None if val is None else Timed(clock, val, (8, 8, 8, 6))
    found = _measure(Model(clock, step, test), batches, val_batches, [callback], steps, clock)
    return found, batches, callback


def test_each_part_is_found_by_hand():
    # Five steps of 2 + 6 + 1 ms; a validation of 4 x (3 + 2) ms, and 2 x 5 ms of epoch callbacks, over five steps.
    found = measured(data=0.002, step=0.006, batch=0.001, epoch=0.005, val=0.003, test=0.002)[0]
    assert found.waiting == pytest.approx([2] * 5)
    assert found.step == pytest.approx([6] * 5)
    assert found.step_callbacks == pytest.approx([1] * 5)
    assert found.validation == pytest.approx(20)
    assert found.epoch_callbacks == pytest.approx(10)
    assert found.milliseconds == pytest.approx(dict(zip(PARTS, (2, 6, 4, 3), strict=True)))
    assert found.shares == pytest.approx(dict(zip(PARTS, (2 / 15, 6 / 15, 4 / 15, 3 / 15), strict=True)))
    assert found.epoch_seconds == pytest.approx(0.075)
    assert found.steps_per_second == pytest.approx(1000 / 15)
    assert found.possible_steps_per_second == pytest.approx(1000 / 13)


def test_a_delay_of_20_ms_is_found():
    waiting = [measured(data=0.003 + delay, step=0.010)[0].milliseconds["waiting for data"] for delay in (0, 0.02)]
    assert waiting[1] - waiting[0] == pytest.approx(20)


def test_steps_may_be_fewer_or_more_than_an_epoch_has():
    for steps in (2, 7):
        found, batches, _ = measured(data=0.002, step=0.006, val=0.005, steps=steps)
        assert found.step == pytest.approx([6] * steps)
        # The validation is that of an epoch of five steps all the same.
        assert found.steps_per_epoch == 5
        assert found.milliseconds["validation"] == pytest.approx(4)
        assert batches.epochs[-1] == 0


def test_callbacks_are_called_as_in_a_fit():
    calls = measured(val=0.0)[2].calls
    assert calls[0] == "begin"
    assert calls[1:-1] == [(number, ["accuracy", "loss"]) for number in range(5)]
    assert calls[-1] == ("end", ["accuracy", "loss", "val_accuracy", "val_loss"])


def profiled(waiting, step, **fields):
    names = {"step_callbacks": (0.0,) * len(waiting), "validation": 0.0, "epoch_callbacks": 0.0}
    return Profile(tuple(waiting), tuple(step), **{**names, "steps_per_epoch": len(waiting), **fields})


NOISE = rng.normal(size=40)


@pytest.mark.parametrize(
    ("found", "bottleneck"),
    [
        (profiled([30.0] * 5, [10.0] * 5), True),
        (profiled([10.0] * 5, [10.0] * 5), False),
        (profiled([10.0] * 5, [30.0] * 5), False),
        (profiled(30 + NOISE, [20.0] * 40), True),
        # More than half, but one slow batch is no evidence for the next; with a single step there is none at all.
        (profiled([5.0] * 39 + [2000.0], [10.0] * 40), False),
        (profiled([30.0], [10.0]), False),
        # Batches that are slow again and again are.
        (profiled([5.0, 5.0, 5.0, 200.0] * 10, [10.0] * 40), True),
        # Waiting exceeds the steps, but not steps and validation, or steps and callbacks.
        (profiled([30.0] * 5, [20.0] * 5, validation=100.0), False),
        (profiled([30.0] * 5, [20.0] * 5, step_callbacks=(20.0,) * 5), False),
    ],
)
def test_the_input_pipeline_is_called_the_bottleneck_where_it_is(found, bottleneck):
    assert found.input_is_bottleneck == bottleneck
    assert ("The input pipeline is the bottleneck" in found.summary()) == bottleneck
    assert found.to_dict()["input_is_bottleneck"] == bottleneck


def test_a_false_alarm_is_rare_where_waiting_is_half():
    noise = np.random.default_rng(1).exponential(size=(400, 30))
    alarms = [profiled(9 + row, [10.0] * 30).input_is_bottleneck for row in noise]
    assert np.mean(alarms) < 0.05


def test_the_summary_says_what_speed_is_possible():
    summary = profiled([30.0] * 5, [10.0] * 5).summary()
    assert summary.startswith("An epoch of 5 steps takes 0.2 s: waiting for data 75%, training step 25%")
    assert "without waiting it would be 100 steps per second instead of 25." in summary
    unsure = profiled([5.0] * 39 + [2000.0], [10.0] * 40).summary()
    assert "vary too much to be sure" in unsure


def test_table_plot_and_dict_agree():
    found = measured(data=0.002, step=0.006, batch=0.001, epoch=0.005, val=0.003, test=0.002)[0]
    head, rows = found.table()
    assert head == ("part of an epoch", "ms per step", "share")
    assert rows[0] == ("waiting for data", "2.00", "13.3%")
    assert rows[-1] == ("total", "15.00", "100.0%")
    axes = found.plot().axes[0]
    bars = [bar for container in axes.containers for bar in container]
    assert [bar.get_width() for bar in bars] == pytest.approx([2, 6, 4, 3])
    assert [bar.get_x() for bar in bars] == pytest.approx([0, 2, 8, 12])
    assert found.to_dict()["shares"] == found.shares
    assert found.to_dict()["measured_steps"] == 5


def network(optimizer):
    """Every kind of state that a network has: weights, batch statistics, the seed of a dropout."""
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 4, 1))
    x = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Flatten()(images))
    x = keras.layers.Dropout(0.3)(keras.layers.Dense(3)(x))
    model = keras.Model(images, keras.layers.Dense(2)(x))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return model


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def train(model):
    for images, labels in BATCHES:
        model.train_on_batch(images, labels)
    return state(model)


@pytest.mark.backend
def test_a_training_goes_as_if_there_had_been_no_profile():
    plain = network(keras.optimizers.Adam(0.01))
    expected = [train(plain), train(plain)]
    model = network(keras.optimizers.Adam(0.01))
    for epoch in range(2):
        before, optimizer = state(model), model.optimizer
        found = training.profile(model, BATCHES, val=BATCHES[:2], steps=5)
        assert len(found.step) == 5
        assert min(found.step) > 0
        for mine, theirs in zip(state(model), before, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert model.optimizer is optimizer
        for mine, theirs in zip(train(model), expected[epoch], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.backend
def test_a_delay_is_found_beside_real_steps():
    clock = Clock()
    found = _measure(network("adam"), Timed(clock, 0.02), None, [], None, clock)
    assert found.waiting == pytest.approx([20] * 5)
    assert found.shares["waiting for data"] == pytest.approx(1)


@pytest.mark.backend
def test_a_profile_that_fails_leaves_everything_as_it_was():
    class Failing(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("a callback's own")

    model = network(keras.optimizers.Adam(0.01))
    train(model)
    before, step = state(model), model.train_function
    with pytest.raises(RuntimeError, match="a callback's own"):
        training.profile(model, BATCHES, callbacks=[Failing()])
    for mine, theirs in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert model.train_function is step


@pytest.mark.backend
def test_batches_of_a_track_and_sample_weights_are_taken():
    images = np.clip(IMAGES * 50 + 100, 0, 255).astype(np.uint8)
    batches = Batches(Split(images[:28], np.arange(28) % 2), 2, 8, shuffle=True)
    first = batches[0][0]
    model = network("adam")
    training.compile_model(model, TrainingSpec(schedule="cosine", epochs=2), steps_per_epoch=len(batches))
    found = training.profile(model, batches, val=batches)
    assert len(found.step) == found.steps_per_epoch == 4
    assert found.validation > 0
    assert np.array_equal(batches[0][0], first)
    weighed = [(*batch, np.ones(8, "float32")) for batch in BATCHES]
    assert len(training.profile(model, weighed).step) == 4


@pytest.mark.parametrize(
    ("batches", "settings", "message"),
    [
        (iter(BATCHES), {}, "repeatedly. Received: an iterator"),
        (BATCHES, {"val": iter(BATCHES)}, "repeatedly. Received: an iterator"),
        (BATCHES, {"steps": 0}, "steps=0"),
        ([], {}, "Epoch 1 had none"),
    ],
)
def test_what_cannot_be_measured_is_refused(batches, settings, message):
    with pytest.raises(ValueError, match=message):
        training.profile(network("adam"), batches, **settings)


def test_a_model_that_cannot_be_trained_yet_is_refused():
    images = keras.Input((2,))
    for model in (keras.Model(images, keras.layers.Dense(1)(images)), keras.Sequential([keras.layers.Dense(2)])):
        with pytest.raises(ValueError, match="compiled and built"):
            training.profile(model, BATCHES)
