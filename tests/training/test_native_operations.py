"""Backend-native operations during training, compared with Keras's own layers."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import training
from keras_vision.data import Batches, Split
from keras_vision.quantization.quantized_layers import QuantizedConv2D
from keras_vision.recipe import TrainingSpec
from keras_vision.training import torch_state
from keras_vision.training.native_operations import NORMALIZATIONS, native_operations

pytestmark = pytest.mark.backend


def network(shape, **arguments):
    model = network_of(lambda: layers.BatchNormalization(momentum=0.7, name="tested", **arguments), shape, rate=0.005)
    rng = np.random.default_rng(1)
    layer = model.get_layer("tested")
    layer.set_weights([rng.uniform(0.5, 1.5, part.shape) for part in layer.get_weights()])
    return model


def network_of(make, shape, rate=0.0003):
    """A network with weights before the tested layer, too, which depend on its gradients."""
    keras.utils.set_random_seed(0)
    images = keras.Input(shape)
    x = make()(layers.Dense(shape[-1], dtype="float32")(images))
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
@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False}])
def test_losses_weights_and_statistics_are_keras_own(shape, arguments):
    expected = trained(network(shape, **arguments), shape)
    model = network(shape, **arguments)
    with native_operations(model):
        assert ("call" in vars(model.get_layer("tested"))) == (keras.backend.backend() in NORMALIZATIONS)
        actual = trained(model, shape)
    assert "call" not in vars(model.get_layer("tested"))
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-4)
    for one, other in zip(actual[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(actual[2], expected[2], rtol=1e-3, atol=1e-3)


def test_half_precision_agrees_within_its_precision():
    shape = (8, 8, 4)
    expected = trained(network(shape, dtype="mixed_bfloat16"), shape)
    model = network(shape, dtype="mixed_bfloat16")
    with native_operations(model):
        actual = trained(model, shape)
    np.testing.assert_allclose(actual[0], expected[0], rtol=0.05)
    for one, other in zip(actual[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05, atol=0.05)


def test_frozen_layers_do_not_change():
    shape = (5, 4, 3)
    model = network(shape)
    model.get_layer("tested").trainable = False
    model.compile("sgd", "mse")
    before = model.get_layer("tested").get_weights()
    with native_operations(model):
        trained(model, shape)
    for one, other in zip(model.get_layer("tested").get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("arguments", [{}, {"scale": False}, {"center": False}, {"dtype": "mixed_bfloat16"}])
def test_known_statistics_give_keras_own_outputs_and_gradients(arguments):
    if keras.backend.backend() != "torch":
        return  # There, a normalization that does not learn is Keras's own.
    shape, found = (5, 4, 3), []
    for enabled in (True, False):
        model = network(shape, **arguments)
        model.get_layer("tested").trainable = False
        model.compile(keras.optimizers.SGD(0.005), "mse")
        with native_operations(model, enabled=enabled):
            found.append(outcome(model, shape))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * np.abs(other).max())


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.front = layers.Dense(3)
        self.norm = layers.BatchNormalization()
        self.head = layers.Dense(3)

    def call(self, images, training=False):
        return self.head(keras.ops.max(self.norm(self.front(images), training=training), axis=(1, 2)))


def test_a_subclassed_model_is_supported():
    def make():
        keras.utils.set_random_seed(0)
        model = Subclassed()
        model(np.zeros((1, 5, 4, 3)))
        model.compile(keras.optimizers.SGD(0.02), "mse")
        return model

    expected = trained(make(), (5, 4, 3))
    model = make()
    with native_operations(model):
        assert ("call" in vars(model.norm)) == (keras.backend.backend() in NORMALIZATIONS)
        actual = trained(model, (5, 4, 3))
    np.testing.assert_allclose(actual[2], expected[2], rtol=1e-3, atol=1e-3)


def test_layers_are_restored_after_a_nested_block_and_an_error():
    model = network((5, 4, 3))
    norm = model.get_layer("tested")
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


def convolution(kind=layers.Conv2D, filters=6, size=3, **arguments):
    return kind(filters, size, name="tested", **arguments)


def depthwise(**arguments):
    return layers.DepthwiseConv2D((4, 3), name="tested", activation="relu", **arguments)


ON_TORCH = {
    "valid": lambda **arguments: convolution(**arguments),
    "same": lambda **arguments: convolution(padding="same", use_bias=False, **arguments),
    "strides": lambda **arguments: convolution(strides=2, **arguments),
    "one by one": lambda **arguments: convolution(size=1, strides=2, padding="same", **arguments),
    "even kernel": lambda **arguments: convolution(size=2, activation="relu", **arguments),
    "dilated": lambda **arguments: convolution(size=(3, 1), padding="same", dilation_rate=2, **arguments),
    "groups": lambda **arguments: convolution(groups=2, **arguments),
    "8-bit kernel": lambda **arguments: QuantizedConv2D(4, 3, padding="same", name="tested", **arguments),
    "depthwise": lambda **arguments: depthwise(strides=2, **arguments),
    "depthwise, padded": lambda **arguments: depthwise(padding="same", depth_multiplier=2, **arguments),
    "depthwise, padded on the right": lambda **arguments: depthwise(strides=2, padding="same", **arguments),
    "depthwise, dilated": lambda **arguments: depthwise(padding="same", dilation_rate=2, use_bias=False, **arguments),
    "pooling": lambda **arguments: layers.MaxPooling2D((2, 3), name="tested", **arguments),
    "overlapping": lambda **arguments: layers.MaxPooling2D(3, strides=2, name="tested", **arguments),
}


on_torch = pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in ON_TORCH.items()])


@on_torch
def test_convolutions_and_poolings_are_keras_own(make):
    assert_same(make, (9, 8, 4), 1e-3)


@on_torch
def test_convolutions_and_poolings_in_half_precision_agree_within_its_precision(make):
    assert_same(lambda: make(dtype="mixed_bfloat16"), (9, 8, 4), 0.05)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_convolutions_of_volumes_are_keras_own(padding):
    assert_same(lambda: convolution(layers.Conv3D, padding=padding), (5, 4, 3, 2), 1e-3)


def assert_same(make, shape, tolerance):
    """Compares losses, predictions and changes of the weights, relative to the largest."""
    method = "convolution_op" if hasattr(make(), "convolution_op") else "call"
    model = network_of(make, shape)
    skips_pixels = getattr(model.get_layer("tested"), "kernel_size", None) == (1, 1)
    replaced = keras.backend.backend() in (("tensorflow", "torch") if skips_pixels else ("torch",))
    with native_operations(model):
        assert (method in vars(model.get_layer("tested"))) == replaced
        if keras.backend.backend() != "torch":
            return  # TensorFlow's are compared below.
        actual = outcome(model, shape)
    assert method not in vars(model.get_layer("tested"))
    model = network_of(make, shape)
    with torch_state.sound_gradients(model):  # Keras's own strided 1 x 1 convolution needs it, too.
        expected = outcome(model, shape)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_projections_that_skip_pixels_are_keras_own(padding, channels):
    """Compared with 16 channels only: with fewer, Keras's own may crash the process."""

    def make():
        return convolution(size=1, strides=(2, 3), padding=padding)

    shape, replaced = (9, 8, channels), keras.backend.backend() in ("tensorflow", "torch")
    model = network_of(make, shape)
    with native_operations(model):
        assert ("convolution_op" in vars(model.get_layer("tested"))) == replaced
        actual = outcome(model, shape)
    assert "convolution_op" not in vars(model.get_layer("tested"))
    if channels == 16:
        for one, other in zip(actual, outcome(network_of(make, shape), shape), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * np.abs(other).max())


def outcome(model, shape):
    before = model.get_weights()
    losses, weights, predicted = trained(model, shape)
    return [losses, predicted, *(now - then for now, then in zip(weights, before, strict=True))]


class Doubled(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return 2 * super().convolution_op(inputs, kernel)


OTHERS = {
    "padded only on the right": lambda: convolution(strides=2, padding="same"),
    "even kernel": lambda: convolution(size=2, padding="same"),
    "an operation of its own": lambda: Doubled(6, 3, name="tested"),
    "padded pooling": lambda: layers.MaxPooling2D(padding="same", name="tested"),
    "channels first": lambda: convolution(data_format="channels_first"),
    "average": lambda: layers.AveragePooling2D(2, name="tested"),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in OTHERS.items()])
def test_other_convolutions_and_poolings_are_not_replaced(make):
    model = network_of(make, (9, 8, 4))
    before = set(vars(model.get_layer("tested")))
    with native_operations(model):
        assert set(vars(model.get_layer("tested"))) == before


@pytest.mark.parametrize("arguments", [{"axis": 1}, {"renorm": True}, {"dtype": "bfloat16"}])
def test_other_normalizations_are_not_replaced(arguments):
    model = network((5, 4, 3), **arguments)
    with native_operations(model):
        assert "call" not in vars(model.get_layer("tested"))


@pytest.mark.parametrize(
    ("make", "replaced_on"),
    [
        pytest.param(lambda: layers.BatchNormalization(name="tested"), (), id="normalization"),
        pytest.param(lambda: convolution(layers.Conv3D, padding="same"), (), id="volumes"),
        pytest.param(lambda: convolution(layers.Conv3D, size=1, strides=2), ("tensorflow",), id="strided 1 x 1 x 1"),
        *(
            pytest.param(make, ("tensorflow",) if name == "one by one" else (), id=name)
            for name, make in ON_TORCH.items()
        ),
    ],
)
def test_disabled_only_tensorflows_strided_1x1_convolutions_are_replaced(make, replaced_on):
    model = network_of(make, (4, 9, 8, 4) if isinstance(make(), layers.Conv3D) else (9, 8, 4))
    before = [set(vars(layer)) for layer in model.layers]
    replaced = {"convolution_op"} if keras.backend.backend() in replaced_on else set()
    with native_operations(model, enabled=False):
        added = [set(vars(layer)) - names for layer, names in zip(model.layers, before, strict=True)]
    assert set().union(*added) == replaced
    assert [set(vars(layer)) for layer in model.layers] == before


@pytest.mark.parametrize("enabled", [True, False])
def test_a_recipe_switches_native_operations_off(enabled):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.BatchNormalization(name="tested"), layers.Flatten(), layers.Dense(2)]
    )
    norm, replaced = model.get_layer("tested"), []
    watch = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: replaced.append("call" in vars(norm)))
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), dtype=np.uint8)
    batches = Batches(Split(images, np.arange(16) % 2), 2, 16)
    training.fit(model, batches, batches, TrainingSpec(epochs=1, native_operations=enabled), callbacks=[watch])
    assert replaced == [enabled and keras.backend.backend() in NORMALIZATIONS]
