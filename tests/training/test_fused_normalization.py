"""Batch normalization as one operation: Keras's own layer is the judge."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision.training.fused_normalization import OPERATIONS, fused_normalization

pytestmark = pytest.mark.backend


def network(shape, **knobs):
    keras.utils.set_random_seed(0)
    images = keras.Input(shape)
    x = layers.BatchNormalization(momentum=0.7, epsilon=1e-3, name="norm", **knobs)(images)
    model = keras.Model(images, layers.Dense(3, dtype="float32")(layers.Flatten()(x)))
    rng = np.random.default_rng(1)
    layer = model.get_layer("norm")
    layer.set_weights([rng.uniform(0.5, 1.5, part.shape) for part in layer.get_weights()])
    model.compile(keras.optimizers.SGD(0.02), "mse")
    return model


def trained(model, shape):
    rng = np.random.default_rng(2)
    images = rng.normal(3, 2, (6, *shape)).astype("float32")
    targets = rng.normal(size=(6, 3)).astype("float32")
    losses = [float(model.train_on_batch(images, targets)) for _ in range(3)]
    return losses, model.get_weights(), model.predict(images, verbose=0)


@pytest.mark.parametrize("shape", [(5, 4, 3), (3, 5, 4, 2)])
@pytest.mark.parametrize("knobs", [{}, {"scale": False}, {"center": False}])
def test_losses_weights_and_statistics_are_keras_own(shape, knobs):
    expected = trained(network(shape, **knobs), shape)
    model = network(shape, **knobs)
    with fused_normalization(model):
        assert ("call" in vars(model.get_layer("norm"))) == (keras.backend.backend() in OPERATIONS)
        found = trained(model, shape)
    assert "call" not in vars(model.get_layer("norm"))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-3, atol=1e-3)


def test_in_half_precision_it_is_as_near_as_half_precision_is():
    shape = (8, 8, 4)
    expected = trained(network(shape, dtype="mixed_bfloat16"), shape)
    model = network(shape, dtype="mixed_bfloat16")
    with fused_normalization(model):
        found = trained(model, shape)
    np.testing.assert_allclose(found[0], expected[0], rtol=0.05)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05, atol=0.05)


def test_frozen_layers_stay_as_they_are():
    shape = (5, 4, 3)
    model = network(shape)
    model.get_layer("norm").trainable = False
    model.compile("sgd", "mse")
    before = model.get_layer("norm").get_weights()
    with fused_normalization(model):
        trained(model, shape)
    for one, other in zip(model.get_layer("norm").get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm = layers.BatchNormalization()
        self.head = layers.Dense(3)

    def call(self, images, training=False):
        return self.head(keras.ops.mean(self.norm(images, training=training), axis=(1, 2)))


def test_a_network_without_a_graph_is_taken_too():
    def made():
        keras.utils.set_random_seed(0)
        model = Subclassed()
        model(np.zeros((1, 5, 4, 3)))
        model.compile(keras.optimizers.SGD(0.02), "mse")
        return model

    expected = trained(made(), (5, 4, 3))
    model = made()
    with fused_normalization(model):
        assert ("call" in vars(model.norm)) == (keras.backend.backend() in OPERATIONS)
        found = trained(model, (5, 4, 3))
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-3, atol=1e-3)


def test_a_block_inside_a_block_and_an_error_leave_the_layers_as_they_were():
    model = network((5, 4, 3))
    norm = model.get_layer("norm")
    before = set(vars(norm))

    def stop():
        with fused_normalization(model):
            with fused_normalization(model):
                pass
            assert ("call" in vars(norm)) == (keras.backend.backend() in OPERATIONS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert set(vars(norm)) == before


@pytest.mark.parametrize("knobs", [{"axis": 1}, {"renorm": True}, {"dtype": "bfloat16"}])
def test_others_are_left_alone(knobs):
    model = network((5, 4, 3), **knobs)
    with fused_normalization(model):
        assert "call" not in vars(model.get_layer("norm"))
