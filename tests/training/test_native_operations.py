"""Operations taken from the backend itself while a network is trained: Keras's own layers are the judge."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision.quantization.quantized_layers import QuantizedConv2D
from keras_vision.training import torch_state
from keras_vision.training.native_operations import NORMALIZATIONS, native_operations

pytestmark = pytest.mark.backend


def network(shape, **knobs):
    model = network_of(lambda: layers.BatchNormalization(momentum=0.7, name="judged", **knobs), shape, rate=0.005)
    rng = np.random.default_rng(1)
    layer = model.get_layer("judged")
    layer.set_weights([rng.uniform(0.5, 1.5, part.shape) for part in layer.get_weights()])
    return model


def network_of(made, shape, rate=0.0003):
    """With weights in front of the layer, too, which learn by its gradients alone."""
    keras.utils.set_random_seed(0)
    images = keras.Input(shape)
    x = made()(layers.Dense(shape[-1], dtype="float32")(images))
    model = keras.Model(images, layers.Dense(3, dtype="float32")(layers.Flatten()(x)))
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def trained(model, shape):
    rng = np.random.default_rng(2)
    images = rng.normal(3, 2, (6, *shape)).astype("float32")
    targets = rng.normal(size=(6, 3)).astype("float32")
    front = next(layer for layer in model.layers if isinstance(layer, layers.Dense))
    (before, _) = front.get_weights()
    losses = [float(model.train_on_batch(images, targets)) for _ in range(3)]
    assert losses[0] > losses[-1]
    assert np.abs(front.get_weights()[0] - before).max() > 1e-4
    return losses, model.get_weights(), model.predict(images, verbose=0)


@pytest.mark.parametrize("shape", [(5, 4, 3), (3, 5, 4, 2)])
@pytest.mark.parametrize("knobs", [{}, {"scale": False}, {"center": False}])
def test_losses_weights_and_statistics_are_keras_own(shape, knobs):
    expected = trained(network(shape, **knobs), shape)
    model = network(shape, **knobs)
    with native_operations(model):
        assert ("call" in vars(model.get_layer("judged"))) == (keras.backend.backend() in NORMALIZATIONS)
        found = trained(model, shape)
    assert "call" not in vars(model.get_layer("judged"))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-3, atol=1e-3)


def test_in_half_precision_it_is_as_near_as_half_precision_is():
    shape = (8, 8, 4)
    expected = trained(network(shape, dtype="mixed_bfloat16"), shape)
    model = network(shape, dtype="mixed_bfloat16")
    with native_operations(model):
        found = trained(model, shape)
    np.testing.assert_allclose(found[0], expected[0], rtol=0.05)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05, atol=0.05)


def test_frozen_layers_stay_as_they_are():
    shape = (5, 4, 3)
    model = network(shape)
    model.get_layer("judged").trainable = False
    model.compile("sgd", "mse")
    before = model.get_layer("judged").get_weights()
    with native_operations(model):
        trained(model, shape)
    for one, other in zip(model.get_layer("judged").get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.front = layers.Dense(3)
        self.norm = layers.BatchNormalization()
        self.head = layers.Dense(3)

    def call(self, images, training=False):
        return self.head(keras.ops.max(self.norm(self.front(images), training=training), axis=(1, 2)))


def test_a_network_without_a_graph_is_taken_too():
    def made():
        keras.utils.set_random_seed(0)
        model = Subclassed()
        model(np.zeros((1, 5, 4, 3)))
        model.compile(keras.optimizers.SGD(0.02), "mse")
        return model

    expected = trained(made(), (5, 4, 3))
    model = made()
    with native_operations(model):
        assert ("call" in vars(model.norm)) == (keras.backend.backend() in NORMALIZATIONS)
        found = trained(model, (5, 4, 3))
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-3, atol=1e-3)


def test_a_block_inside_a_block_and_an_error_leave_the_layers_as_they_were():
    model = network((5, 4, 3))
    norm = model.get_layer("judged")
    before = set(vars(norm))

    def stop():
        with native_operations(model):
            with native_operations(model):
                pass
            assert ("call" in vars(norm)) == (keras.backend.backend() in NORMALIZATIONS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert set(vars(norm)) == before


def convolution(kind=layers.Conv2D, filters=6, size=3, **knobs):
    return kind(filters, size, name="judged", **knobs)


ON_TORCH = {
    "valid": lambda **knobs: convolution(**knobs),
    "same": lambda **knobs: convolution(padding="same", use_bias=False, **knobs),
    "strides": lambda **knobs: convolution(strides=2, **knobs),
    "one by one": lambda **knobs: convolution(size=1, strides=2, padding="same", **knobs),
    "even kernel": lambda **knobs: convolution(size=2, activation="relu", **knobs),
    "dilated": lambda **knobs: convolution(size=(3, 1), padding="same", dilation_rate=2, **knobs),
    "groups": lambda **knobs: convolution(groups=2, **knobs),
    "8-bit kernel": lambda **knobs: QuantizedConv2D(4, 3, padding="same", name="judged", **knobs),
    "pooling": lambda **knobs: layers.MaxPooling2D((2, 3), name="judged", **knobs),
    "overlapping": lambda **knobs: layers.MaxPooling2D(3, strides=2, name="judged", **knobs),
}


made_on_torch = pytest.mark.parametrize("made", [pytest.param(made, id=name) for name, made in ON_TORCH.items()])


@made_on_torch
def test_convolutions_and_poolings_are_keras_own(made):
    assert_same(made, (9, 8, 4), 1e-3)


@made_on_torch
def test_convolutions_and_poolings_in_half_precision_are_as_near_as_that_is(made):
    assert_same(lambda: made(dtype="mixed_bfloat16"), (9, 8, 4), 0.05)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolutions_of_volumes_are_keras_own(padding):
    assert_same(lambda: convolution(layers.Conv3D, padding=padding), (5, 4, 3, 2), 1e-3)


def assert_same(made, shape, tolerance):
    """Losses, predictions, and what the weights changed by, as shares of the largest."""
    method = "convolution_op" if hasattr(made(), "convolution_op") else "call"
    model = network_of(made, shape)
    skips_pixels = getattr(model.get_layer("judged"), "kernel_size", None) == (1, 1)
    replaced = keras.backend.backend() in (("tensorflow", "torch") if skips_pixels else ("torch",))
    with native_operations(model):
        assert (method in vars(model.get_layer("judged"))) == replaced
        if keras.backend.backend() != "torch":
            return  # What TensorFlow's are is compared below.
        found = learnt(model, shape)
    assert method not in vars(model.get_layer("judged"))
    model = network_of(made, shape)
    with torch_state.sound_gradients(model):  # Keras's own 1 x 1 convolution with strides needs it, too.
        expected = learnt(model, shape)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_projections_that_skip_pixels_are_keras_own(padding, channels):
    """Of 16 channels, for of fewer Keras's own may end the process."""

    def made():
        return convolution(size=1, strides=(2, 3), padding=padding)

    shape, replaced = (9, 8, channels), keras.backend.backend() in ("tensorflow", "torch")
    model = network_of(made, shape)
    with native_operations(model):
        assert ("convolution_op" in vars(model.get_layer("judged"))) == replaced
        found = learnt(model, shape)
    assert "convolution_op" not in vars(model.get_layer("judged"))
    if channels == 16:
        for one, other in zip(found, learnt(network_of(made, shape), shape), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * np.abs(other).max())


def learnt(model, shape):
    before = model.get_weights()
    losses, weights, predicted = trained(model, shape)
    return [losses, predicted, *(now - then for now, then in zip(weights, before, strict=True))]


class Doubled(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return 2 * super().convolution_op(inputs, kernel)


OTHERS = {
    "padded on the right alone": lambda: convolution(strides=2, padding="same"),
    "even kernel": lambda: convolution(size=2, padding="same"),
    "an operation of its own": lambda: Doubled(6, 3, name="judged"),
    "padded pooling": lambda: layers.MaxPooling2D(padding="same", name="judged"),
    "channels first": lambda: convolution(data_format="channels_first"),
    "average": lambda: layers.AveragePooling2D(2, name="judged"),
}


@pytest.mark.parametrize("made", [pytest.param(made, id=name) for name, made in OTHERS.items()])
def test_other_convolutions_and_poolings_are_left_alone(made):
    model = network_of(made, (9, 8, 4))
    before = set(vars(model.get_layer("judged")))
    with native_operations(model):
        assert set(vars(model.get_layer("judged"))) == before


@pytest.mark.parametrize("knobs", [{"axis": 1}, {"renorm": True}, {"dtype": "bfloat16"}])
def test_others_are_left_alone(knobs):
    model = network((5, 4, 3), **knobs)
    with native_operations(model):
        assert "call" not in vars(model.get_layer("judged"))
