"""The range test on models with a known largest stable rate; and the model's state afterwards, which is unchanged."""

import keras
import numpy as np
import pytest

from keras_vision import training
from keras_vision.data import Batches, Split
from keras_vision.recipe import TrainingSpec

pytestmark = pytest.mark.backend

SGD, Adam, AdamW = keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.AdamW
CosineDecay = keras.optimizers.schedules.CosineDecay

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(32, 4, 4, 1)).astype("float32")
LABELS = np.eye(2, dtype="float32")[np.arange(32) % 2]
IMAGES[::2, :2] += 1
BATCHES = [(IMAGES[start : start + 8], LABELS[start : start + 8]) for start in range(0, 32, 8)]


def dropout_network():
    """Every kind of state of a network: weights, batch statistics, a dropout's seed."""
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 4, 1))
    x = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Flatten()(images))
    x = keras.layers.Dropout(0.3)(keras.layers.Dense(3)(x))
    return keras.Model(images, keras.layers.Dense(2)(x))


def compiled(optimizer, model=None):
    model = model or dropout_network()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return model


def sharp_valley(optimizer):
    """A quadratic loss with curvatures 2 and 0.02: gradient descent is stable up to the rate 2 / 2 = 1."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs))
    model.compile(optimizer=optimizer, loss="mse")
    # (first weight - 3)^2 + .01 second weight^2 + 1.
    images = np.array([[1, 0.1], [1, -0.1]] * 2, "float32")
    targets = np.array([[4.0], [4.0], [2.0], [2.0]], "float32")
    return model, [(images, targets)]


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assert_equal(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def train(model, epochs=1):
    for images, labels in BATCHES * epochs:
        model.train_on_batch(images, labels)
    return state(model)


def sweep(model, batches=BATCHES, **settings):
    return training.range_test(model, batches, **{"low": 1e-4, "high": 100.0, "steps": 12, **settings})


@pytest.mark.parametrize("sweep_kind", ["exponential", "linear"])
def test_divergence_is_found_at_the_largest_stable_rate_and_suggestions_are_lower(sweep_kind):
    model, batches = sharp_valley(SGD(0.1))
    # Two batches that differ a little, or the weights converge so well that divergence takes long.
    (images, targets) = batches[0]
    batches = [(images, targets + 0.05), (images, targets - 0.05)]
    ranges = {"exponential": (1e-4, 100.0), "linear": (0.0, 2.0)}
    low, high = ranges[sweep_kind]
    curve = training.range_test(model, batches, low=low, high=high, steps=80, sweep=sweep_kind)
    assert curve.diverged
    assert 1 < curve.rates[-1] < 3
    # By hand: at the start the loss is (1 - 3)^2 + 0.01 * 1 + 1 = 5.01, at the minimum 1.
    assert curve.losses[0] == pytest.approx(5.01, rel=5e-2)
    assert min(curve.losses) == pytest.approx(1, rel=2e-2)
    assert 0 < curve.steepest < 1
    assert 0 < curve.valley < 1
    assert curve.sweep == sweep_kind


def test_a_loss_belongs_to_the_rate_of_the_step_before_it():
    model, batches = sharp_valley(SGD(0.1))
    curve = training.range_test(model, batches, low=0.0, high=0.9, steps=10, sweep="linear", smoothing=0.0)
    assert curve.rates == pytest.approx(np.linspace(0, 0.9, 10))
    # A rate of 0 changes nothing; 0.1 multiplies the first weight's distance, 2, by 1 - 0.1 * 2.
    assert curve.losses[:2] == pytest.approx([5.01, 1 + 0.01 + (2 * 0.8) ** 2], rel=1e-3)


def optimizers():
    schedule = CosineDecay(0.01, 100)
    excluding = AdamW(schedule, weight_decay=0.1)
    excluding.exclude_from_weight_decay(var_names=["bias"])
    return {
        "a rate": Adam(0.01),
        "a schedule": SGD(schedule, momentum=0.9),
        "averages and decay": AdamW(0.01, weight_decay=0.1, use_ema=True, ema_overwrite_frequency=3),
        "a schedule and exclusions": excluding,
        "accumulation": SGD(0.01, gradient_accumulation_steps=2),
        "loss scaling": keras.optimizers.LossScaleOptimizer(Adam(0.01)),
    }


@pytest.mark.parametrize("name", list(optimizers()))
def test_a_training_is_the_same_as_without_the_range_test(name):
    """Before the first step, and again between steps, when the optimizer has slots and a compiled function."""
    plain = compiled(optimizers()[name])
    expected = [train(plain), train(plain)]
    model = compiled(optimizers()[name])
    optimizer, rate = model.optimizer, getattr(model.optimizer, "_learning_rate", None)
    for epoch in range(2):
        before = state(model)
        curve = sweep(model)
        assert_equal(state(model), before)
        assert max(curve.losses) != pytest.approx(min(curve.losses))  # The sweep did train.
        assert model.optimizer is optimizer
        assert getattr(optimizer, "_learning_rate", None) is rate
        assert optimizer.built is bool(epoch)
        for mine, plainly in zip(train(model), expected[epoch], strict=True):
            np.testing.assert_allclose(mine, plainly, rtol=1e-6, atol=1e-7)


def test_a_second_sweep_uses_its_own_rates():
    model, batches = sharp_valley(SGD(CosineDecay(0.1, 100)))
    first = training.range_test(model, batches, low=1e-6, high=1e-5, steps=12)
    second = training.range_test(model, batches, low=1e-3, high=0.5, steps=12)
    again = training.range_test(model, batches, low=1e-6, high=1e-5, steps=12)
    assert first.losses == again.losses
    assert min(first.losses) > 5
    assert min(second.losses) < 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_sweep_restores_everything(error):
    def failing():
        yield from BATCHES
        raise error

    model = compiled(Adam(0.01))
    train(model)
    before, step = state(model), model.train_function
    with pytest.raises(error):
        sweep(model, failing())
    assert_equal(state(model), before)
    assert model.train_function is step
    assert_equal(train(model), (train(compiled(Adam(0.01)), epochs=2)))


def test_an_interrupted_step_restores_everything(monkeypatch):
    model = compiled(Adam(0.01))
    train(model)
    before, make, done = state(model), model.make_train_function, []

    def make_interrupted_function():
        if model.train_function is not None:
            return
        make()
        step = model.train_function

        def interrupted(*args):
            done.append(step(*args))
            if len(done) == 3:
                raise KeyboardInterrupt
            return done[-1]

        model.train_function = interrupted

    monkeypatch.setattr(model, "make_train_function", make_interrupted_function)
    with pytest.raises(KeyboardInterrupt):
        sweep(model)
    monkeypatch.undo()
    getattr(model, "jax_state_sync", lambda: None)()  # As callbacks do: JAX writes a step's results later.
    assert_equal(state(model), before)


def test_metrics_keep_their_counts():
    model = compiled(Adam(0.01))
    train(model)
    before = model.get_metrics_result()
    sweep(model)
    assert {name: float(value) for name, value in model.get_metrics_result().items()} == pytest.approx(
        {name: float(value) for name, value in before.items()}
    )


def test_metrics_created_by_the_sweep_have_counted_nothing():
    model = compiled(Adam(0.01))
    sweep(model)
    assert all(not keras.ops.convert_to_numpy(variable).any() for variable in model.metrics_variables)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only torch keeps gradients")
def test_gradients_are_restored():
    model = compiled(Adam(0.01))
    train(model)
    gradients = [variable.value.grad for variable in model.trainable_variables]
    values = [gradient.clone() for gradient in gradients]
    sweep(model)
    for variable, gradient, value in zip(model.trainable_variables, gradients, values, strict=True):
        assert variable.value.grad is gradient
        assert (gradient == value).all()


def test_class_weights_are_used_as_in_a_fit():
    model = compiled(SGD(0.1))
    plain, doubled, first = (
        sweep(model, low=1e-9, high=1e-8, class_weight=weights)
        for weights in (None, {0: 2.0, 1: 2.0}, {0: 1.0, 1: 0.0})
    )
    assert doubled.losses == pytest.approx(2 * np.array(plain.losses), rel=1e-4)
    assert first.losses != pytest.approx(plain.losses, rel=1e-2)


def test_sample_weights_are_used():
    model = compiled(SGD(0.1))
    weighed = [(images, labels, np.full(8, 3.0, "float32")) for images, labels in BATCHES]
    plain, tripled = (sweep(model, batches, low=1e-9, high=1e-8) for batches in (BATCHES, weighed))
    assert tripled.losses == pytest.approx(3 * np.array(plain.losses), rel=1e-4)


def test_batches_of_a_track_are_restarted_and_end_at_epoch_0():
    images = np.clip(IMAGES * 50 + 100, 0, 255).astype(np.uint8)
    batches = Batches(Split(images, np.arange(32) % 2), 2, 8, shuffle=True)
    first, epochs, start = batches[0][0], [], batches.start_epoch
    batches.start_epoch = lambda epoch: (epochs.append(epoch), start(epoch))
    model = dropout_network()
    training.compile_model(model, TrainingSpec(schedule="cosine", epochs=2), steps_per_epoch=len(batches))
    curve = sweep(model, batches, low=1e-6, high=1e-5)
    # 12 rates and the batch before them are 13 batches, four an epoch.
    assert len(curve.rates) == 12
    assert epochs == [0, 1, 2, 3, 0]
    assert np.array_equal(batches[0][0], first)


def test_weight_decay_excludes_the_same_variables():
    inputs = keras.Input((4, 4, 1))
    layer = keras.layers.Dense(2, bias_initializer="ones")
    model = keras.Model(inputs, layer(keras.layers.Flatten()(inputs)))
    optimizer = AdamW(0.0, weight_decay=0.9)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    compiled(optimizer, model)
    kernel = keras.ops.convert_to_numpy(layer.kernel).copy()
    seen, step = [], model.train_on_batch

    def watched(*args, **kwargs):
        logs = step(*args, **kwargs)
        seen.append([keras.ops.convert_to_numpy(variable).copy() for variable in (layer.bias, layer.kernel)])
        return logs

    model.train_on_batch = watched
    # With sample weights of 0 there are no gradients, so only decay changes a variable.
    nothing = [(images, labels, np.zeros(8, "float32")) for images, labels in BATCHES]
    sweep(model, nothing, low=0.1, high=0.5)
    assert np.array([bias for bias, _ in seen]) == pytest.approx(np.ones((13, 2)))
    assert seen[0][1] == pytest.approx(kernel * (1 - 0.9 * 0.1), rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_sweep():
    model = compiled(SGD(0.1))
    model.layers[-1].bias.assign([np.inf, np.inf])
    curve = sweep(model)
    assert curve.diverged
    assert curve.rates == ()
    assert "diverged after 0 steps" in curve.remark


def test_verbose_shows_the_progress_bar(capsys):
    model = compiled(SGD(0.1))
    sweep(model, verbose=False)
    assert capsys.readouterr().out == ""
    sweep(model, verbose=True)
    assert "/12" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 0.0}, "above 0, to a high one.*low=0.0"),
        ({"low": 1.0, "high": 0.1}, "low=1.0, high=0.1"),
        ({"high": np.inf}, "high=inf"),
        ({"steps": 9}, "10 steps or more.*steps=9"),
        ({"sweep": "cosine"}, "exponential, linear.*sweep='cosine'"),
        ({"smoothing": 1.0}, "smoothing=1.0"),
        ({"divergence": 1.0}, "divergence=1.0"),
        ({"batches": []}, "Epoch 1 had none"),
        ({"batches": iter(BATCHES)}, "Epoch 2 had none"),
    ],
)
def test_arguments_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        sweep(compiled(SGD(0.1)), **settings)


def test_a_model_that_is_not_compiled_or_built_is_refused():
    for model in (dropout_network(), keras.Sequential([keras.layers.Dense(2)])):
        with pytest.raises(ValueError, match="compiled and built"):
            sweep(model)
