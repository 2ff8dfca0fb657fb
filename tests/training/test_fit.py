"""The training of a tiny network: best weights, schedules, optimizers, class weights, errors."""

import keras
import numpy as np
import pytest

from keras_vision import training
from keras_vision.data import Batches, Split
from keras_vision.recipe import InputError, TrainingSpec
from keras_vision.training.fit import RiseAndFall, _optimizer

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def halves():
    """Two classes that differ in the bright half, which a network learns in a few epochs."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (120, 16, 16, 1), dtype=np.uint8)
    labels = np.arange(120) % 2
    images[labels == 0, :8] += 120
    images[labels == 1, 8:] += 120
    return Split(images, labels)


def tiny_network():
    """JAX compiles it in a second; it has normalization and dropout as real ones."""
    images = keras.Input((16, 16, 1))
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(4, 3, strides=2)(x)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.AveragePooling2D(3)(keras.layers.ReLU()(x))
    x = keras.layers.Dropout(0.2)(keras.layers.Flatten()(x))
    return keras.Model(images, keras.layers.Dense(2)(x))


def fitted(split, val_split=None, *, epochs=3, seed=0, **fields):
    keras.utils.set_random_seed(seed)
    model = tiny_network()
    spec = TrainingSpec(epochs=epochs, batch_size=16, learning_rate=0.01, **fields)
    train = Batches(split, 2, 16, shuffle=True, seed=seed)
    val = Batches(val_split or split, 2, 64)
    return model, training.fit(model, train, val, spec), val


def val_loss(model, val):
    return model.evaluate(val, verbose=0, return_dict=True)["loss"]


def test_the_network_learns(halves):
    model, history, val = fitted(halves, epochs=10)
    assert history.epochs[-1]["loss"] < 0.7 * history.epochs[0]["loss"]
    predicted = model.predict(val, verbose=0).argmax(axis=1)
    assert (predicted == halves.labels).mean() > 0.9


def test_early_stopping_restores_the_best_epochs_weights():
    # Random labels: overfitting makes the network worse on other images.
    rng = np.random.default_rng(0)
    noise, other = (Split(rng.integers(0, 256, (48, 16, 16, 1), dtype=np.uint8), np.arange(48) % 2) for _ in range(2))
    model, history, val = fitted(noise, other, epochs=40, patience=2, schedule="constant")
    losses = [epoch["val_loss"] for epoch in history.epochs]
    assert len(losses) < 40
    assert history.best_epoch == np.argmin(losses) + 1 == len(losses) - 2
    assert val_loss(model, val) == pytest.approx(min(losses), rel=1e-3)


def test_the_averaged_weights_are_evaluated_and_kept(halves):
    plain = fitted(halves, patience=0, schedule="constant")[1]
    for patience in (0, 1):
        model, history, val = fitted(halves, ema_momentum=0.9, patience=patience, schedule="constant")
        expected = history.epochs[history.best_epoch - 1]["val_loss"]
        assert val_loss(model, val) == pytest.approx(expected, rel=1e-3)
        assert history.epochs[0]["loss"] == pytest.approx(plain.epochs[0]["loss"], rel=1e-3)
        assert history.epochs[0]["val_loss"] != pytest.approx(plain.epochs[0]["val_loss"], rel=1e-3)


def test_cosine_ends_near_zero_after_a_warmup(halves):
    history = fitted(halves, epochs=4, schedule="cosine", warmup_epochs=1, patience=0)[1]
    rates = [epoch["learning_rate"] for epoch in history.epochs]
    assert rates[0] == pytest.approx(0.01, rel=0.15)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-4


def test_a_warmup_that_never_ends_is_refused(halves):
    with pytest.raises(InputError, match="--warmup-epochs must be less"):
        fitted(halves, epochs=2, schedule="cosine", warmup_epochs=2)


def test_plateau_cuts_the_rate(halves):
    history = fitted(halves, epochs=8, plateau_patience=1, cut_factor=0.1, patience=0)[1]
    assert history.epochs[-1]["learning_rate"] < 0.01


def test_steps_cut_the_rate_every_few_epochs(halves):
    history = fitted(halves, epochs=5, schedule="step", step_epochs=2, cut_factor=0.1, patience=0)[1]
    rates = [epoch["learning_rate"] for epoch in history.epochs]
    # The rate at the end of an epoch is that of the next step.
    assert rates == pytest.approx([0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_class_weights_pull_towards_the_rare_class(halves):
    kept = np.r_[np.flatnonzero(halves.labels == 0), np.flatnonzero(halves.labels == 1)[:6]]
    noise = Split(np.random.default_rng(1).integers(0, 255, (66, 16, 16, 1), dtype=np.uint8), halves.labels[kept])
    shares = {}
    for setting in ("none", "balanced"):
        model, _, val = fitted(noise, epochs=4, class_weight=setting, patience=0)
        logits = model.predict(val, verbose=0)
        shares[setting] = (logits[:, 1] - logits[:, 0]).mean()
    assert shares["balanced"] > shares["none"]


def test_logit_adjustment_subtracts_log_frequencies_from_the_logits(halves):
    split = Split(halves.images[:90], np.r_[np.zeros(60, int), np.ones(30, int)])
    plain, adjusted = (
        model.predict(val, verbose=0)
        for model, _, val in (fitted(split, epochs=1, logit_adjustment=strength) for strength in (0.0, 0.5))
    )
    # Frequencies 2/3 and 1/3: -0.5 log 2/3 = 0.203 and -0.5 log 1/3 = 0.549.
    np.testing.assert_allclose(adjusted - plain, np.tile([0.203, 0.549], (90, 1)), atol=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_excludes_normalizations_and_biases(halves, optimizer):
    model = fitted(halves, epochs=1, optimizer=optimizer, weight_decay=0.1)[0]
    decayed = {
        var.path.rpartition("/")[2] for var in model.trainable_variables if model.optimizer._use_weight_decay(var)
    }
    assert decayed == {"kernel"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # Two steps with gradient 1 and rate 0.01, from 0: v = -0.01 and -0.019 with momentum 0.9; Nesterov's steps are
        # 0.9 v - 0.01.
        ({"momentum": 0.0}, -0.02),
        ({"momentum": 0.9}, -0.029),
        ({"momentum": 0.9, "nesterov": True}, -0.0461),
        # The decay is 0.01 * 0.1 of the weight in each step, independent of momentum: first of 0, then of -0.01.
        ({"momentum": 0.0, "weight_decay": 0.1}, -0.02 + 0.01 * 0.1 * 0.01),
    ],
)
def test_sgd_by_hand(fields, expected):
    optimizer = _optimizer(TrainingSpec(optimizer="sgd", learning_rate=0.01, schedule="constant", **fields), 1)
    weight = keras.Variable([0.0], name="kernel")
    optimizer.build([weight])
    for _ in range(2):
        optimizer.apply([keras.ops.convert_to_tensor([1.0])])
    assert float(keras.ops.convert_to_numpy(weight)[0]) == pytest.approx(expected, abs=1e-6)


def test_sgd_learns(halves):
    history = fitted(halves, epochs=6, optimizer="sgd", nesterov=True)[1]
    assert history.epochs[-1]["loss"] < 0.8 * history.epochs[0]["loss"]


def test_tensorboard_logs_are_written(halves, tmp_path):
    pytest.importorskip("tensorboard")
    model = tiny_network()
    batches = Batches(halves, 2, 64)
    training.fit(model, batches, batches, TrainingSpec(epochs=1, tensorboard=True), log_dir=tmp_path)
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_a_loss_that_is_not_finite_is_an_error_with_a_way_out(halves):
    model = tiny_network()
    model.layers[-1].bias.assign([np.inf, np.inf])
    spec = TrainingSpec(epochs=3, batch_size=16)
    with pytest.raises(InputError, match="no longer a finite number after epoch 1.* Lower --learning-rate"):
        training.fit(model, Batches(halves, 2, 16), Batches(halves, 2, 64), spec)


@pytest.mark.parametrize("patience", [0, 2])
def test_a_validation_loss_that_is_not_finite_is_never_the_best(halves, patience):
    # Without ReLU, because XLA turns NaN into 0 there.
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((16, 16, 1)), keras.layers.Flatten(), norm, keras.layers.Dense(2)])
    norm.moving_variance.assign(np.full(256, np.nan))  # Training does not read it.
    spec = TrainingSpec(epochs=3, batch_size=16, patience=patience)
    with pytest.raises(InputError, match="no longer a finite number"):
        training.fit(model, Batches(halves, 2, 16), Batches(halves, 2, 64), spec)


def test_the_history_is_written_as_csv(halves):
    lines = fitted(halves, epochs=2)[1].to_csv().splitlines()
    assert lines[0].startswith("epoch,")
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"} <= set(lines[0].split(","))
    assert len(lines) == 3
    assert lines[1].startswith("1,")


def test_the_same_seed_repeats_a_training(halves):
    first, second = fitted(halves, epochs=2)[1], fitted(halves, epochs=2)[1]
    assert [epoch["loss"] for epoch in first.epochs] == pytest.approx([e["loss"] for e in second.epochs], rel=1e-5)


def test_a_linear_schedule_rises_and_falls():
    rates = RiseAndFall(2.0, 4, 10)
    values = [float(rates(step)) for step in range(12)]
    np.testing.assert_allclose(values[:4], [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(np.diff(values[3:11]), -2 / 7, atol=1e-6)
    assert values[10:] == pytest.approx([0, 0], abs=1e-6)
    assert values[9] > 0  # The last of ten steps still changes the weights.


def test_a_linear_schedule_is_followed(halves):
    history = fitted(halves, epochs=2, schedule="linear", warmup_epochs=1, patience=0)[1]
    # The rate of the next step after each epoch.
    assert history.epochs[0]["learning_rate"] == pytest.approx(0.01 * 8 / 9, rel=1e-3)
    assert history.epochs[1]["learning_rate"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("channels", "stride", "avoided"), [(8, 2, True), (16, 2, False), (8, 1, False)])
def test_torch_trains_narrow_strided_projections_without_onednn(channels, stride, avoided, halves):
    torch = pytest.importorskip("torch")
    images = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(channels, 3)(images)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 1, strides=stride)(x))
    model = keras.Model(images, x)
    enabled = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: enabled.append(torch.backends.mkldnn.enabled))
    batches = Batches(halves, 2, 120)
    training.fit(model, batches, batches, TrainingSpec(epochs=1), callbacks=[watch])
    assert enabled == [not (avoided and keras.backend.backend() == "torch")]
    assert torch.backends.mkldnn.enabled
