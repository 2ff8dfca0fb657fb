"""One layer at a time, with all its options: the file computes what its simulation does."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from keras_vision import quantization
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 9, 11, 3), dtype=np.uint8)
# JAX and TensorFlow compile each example for seconds; which values are tried is not a matter of the backend.
EXAMPLES = 8 if keras.backend.backend() == "torch" else 2
SEARCH = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
WINDOWS = {
    "kernel": st.sampled_from([1, 2, 3, 5, (1, 3)]),
    "strides": st.sampled_from([1, 2]),
    "padding": st.sampled_from(["same", "valid"]),
}


def assert_file_agrees(model, images=IMAGES):
    """File and simulation give the same integers; the float model is a few steps away at most."""
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, images, logits=True)
    content = quantization.convert(quantized, "qat", logits=True)
    found = quantization.Runner(content)(images)
    assert quantization.simulation_agreement(quantized, images, found, logits=True).within_a_step > 0.99
    assert np.abs(found - model.predict(images, verbose=0)).max() < 0.1 * np.ptp(found) + 1e-6
    return quantization.audit(content)


def model_of(*middle, seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(IMAGES.shape[1:]), layers.Rescaling(1 / 255), *middle])


@SEARCH
@given(**WINDOWS, filters=st.integers(1, 5), activation=st.sampled_from(["linear", "relu", "relu6"]))
def test_convolutions(kernel, strides, padding, filters, activation):
    conv = layers.Conv2D(filters, kernel, strides=strides, padding=padding, activation=activation)
    assert_file_agrees(model_of(conv, layers.GlobalAveragePooling2D(), layers.Dense(3)))


@SEARCH
@given(kernel=st.sampled_from([1, 3, 5]), strides=st.sampled_from([1, 2]), padding=st.sampled_from(["same", "valid"]))
def test_depthwise_convolutions(kernel, strides, padding):
    conv = layers.DepthwiseConv2D(kernel, strides=strides, padding=padding, depth_multiplier=1 + strides % 2)
    found = assert_file_agrees(model_of(conv, layers.BatchNormalization(), layers.ReLU(), layers.Flatten()))
    assert [item.name for item in found.operators].count("DEPTHWISE_CONV_2D") == 1


@SEARCH
@given(pool=st.integers(1, 3), strides=st.integers(1, 3), padding=st.sampled_from(["same", "valid"]))
def test_pooling(pool, strides, padding):
    for kind in (layers.MaxPooling2D, layers.AveragePooling2D):
        assert_file_agrees(
            model_of(layers.Conv2D(2, 3), kind(pool, strides=strides, padding=padding), layers.Flatten())
        )


@pytest.mark.parametrize("size", [(13, 16), (9, 20), (6, 7)])
def test_resizing(size):
    found = assert_file_agrees(model_of(layers.Resizing(*size), layers.Conv2D(2, 3), layers.Flatten()))
    assert [item.name for item in found.operators].count("RESIZE_BILINEAR") == 1


def test_resizing_gives_the_same_integers_as_the_file():
    """Twice the side makes quarters and halves of steps, which could be rounded another way."""
    model = model_of(layers.Resizing(18, 22), layers.Conv2D(3, 1, use_bias=False), layers.Flatten())
    model.layers[-2].set_weights([np.eye(3).reshape(1, 1, 3, 3)])  # The identity, so that the output has a range.
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, IMAGES, logits=True)
    found = quantization.Runner(quantization.convert(quantized, "qat", logits=True))(IMAGES)
    np.testing.assert_allclose(found, quantized.predict(IMAGES, verbose=0), atol=1e-6)


@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_convolutions(dilation):
    assert_file_agrees(model_of(layers.Conv2D(3, 3, dilation_rate=dilation, padding="same"), layers.Flatten()))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "elu", "gelu", "silu", "hard_silu", "leaky_relu", "softmax"])
def test_activations(activation):
    assert_file_agrees(model_of(layers.Conv2D(4, 3, activation=activation), layers.Flatten(), layers.Dense(4)))


def test_a_pixel_normalization_costs_a_depthwise_convolution():
    norm = layers.Normalization(mean=(120.0, 130.0, 90.0), variance=(900.0, 400.0, 2500.0))
    model = keras.Sequential([keras.Input(IMAGES.shape[1:]), norm, layers.Conv2D(3, 3), layers.Flatten()])
    found = assert_file_agrees(model)
    assert found.operators[1].name == "DEPTHWISE_CONV_2D"


def test_a_rescaling_that_fits_costs_nothing():
    found = assert_file_agrees(model_of(layers.Flatten(), layers.Dense(3)))
    assert [item.name for item in found.operators] == ["QUANTIZE", "RESHAPE", "FULLY_CONNECTED", "QUANTIZE"]


@pytest.mark.parametrize(("shape", "classes"), [((9, 11, 1), 2), ((9, 11, 3), 2), ((9, 11, 3), 1)])
def test_gray_images_and_few_classes(shape, classes):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(classes)])
    images = np.random.default_rng(0).integers(0, 256, (8, *shape), dtype=np.uint8)
    logits = model.predict(images, verbose=0)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits) if classes > 1 else keras.ops.sigmoid(logits))
    content = quantization.convert(model, "int8", images, input_range=(0, 255))
    found = quantization.Runner(content)(images)
    assert np.abs(found - expected).max() < 0.1
    np.testing.assert_allclose(quantization.Runner(quantization.convert(model, "float32"))(images), expected, atol=1e-4)


def test_a_model_that_ends_in_probabilities_gets_no_second_softmax(zoo_images):
    model = keras.Sequential([keras.Input((20, 20, 3)), layers.Flatten(), layers.Dense(4, activation="softmax")])
    for scheme in ("float32", "int8"):
        found = quantization.audit(quantization.convert(model, scheme, zoo_images, input_range=(0, 255)))
        assert [item.name for item in found.operators].count("SOFTMAX") == 1


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="compiles for half a minute and more elsewhere")
def test_a_nested_backbone_of_keras_applications(zoo_images):
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg")
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    inputs = keras.Input((32, 32, 3))
    scaled = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(backbone(scaled)))
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, images)
    content = quantization.convert(quantized, "qat")
    names = [item.name for item in quantization.audit(content).operators]
    assert names.count("CONV_2D") == 35
    assert names.count("DEPTHWISE_CONV_2D") == 17
    found = quantization.Runner(content)(images)
    assert quantization.simulation_agreement(quantized, images, found).within_a_step > 0.99


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.LayerNormalization(axis=1), "axis .1"),
        (layers.GroupNormalization(1), "GroupNormalization"),
        (layers.Resizing(8, 8, interpolation="nearest"), "nearest"),
        (layers.UpSampling2D(interpolation="bicubic"), "bicubic"),
        (layers.ReLU(max_value=3.0, negative_slope=0.1), "a slope and a largest value"),
        (layers.ReLU(threshold=1.0), "threshold 1"),
        (layers.ELU(0.5), "alpha 0.5"),
        (layers.Softmax(axis=1), "axis 1"),
        (layers.Activation("softplus"), "softplus"),
        (layers.BatchNormalization(axis=1), "axis 1"),
        (layers.Conv2DTranspose(3, 3, dilation_rate=2), "dilation"),
        (layers.PReLU(), "not shared"),
        (layers.Lambda(lambda x: keras.ops.exp(x)), "Exp"),
        (layers.Conv2D(3, 3, activation=lambda x: keras.ops.mean(x, axis=-1, keepdims=True) + x), "Mean"),
    ],
)
def test_a_layer_that_has_no_integer_operator_is_refused_by_name(layer, message):
    images = keras.Input((9, 11, 3))
    made = layers.Flatten()(layer(layers.Rescaling(1 / 255)(images)))
    with pytest.raises(InputError, match=f"{layer.name}.*{message}.*Supported"):
        quantization.with_fake_quantization(keras.Model(images, made))
