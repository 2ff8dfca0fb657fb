"""Networks for volumes as 2D networks: the same outputs from the same weights."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from keras_vision import quantization
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend
# JAX and TensorFlow compile each example for seconds; which values are tried is not a matter of the backend.
EXAMPLES = 10 if keras.backend.backend() == "torch" else 2
SEARCH = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
PADDINGS = st.sampled_from(["same", "valid"])
VOLUMES = np.random.default_rng(0).uniform(0, 255, (2, 6, 7, 8, 2)).astype("float32")


def model_of(*middle, shape=VOLUMES.shape[1:]):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input(shape), *middle])


def assert_same(model, volumes=VOLUMES):
    lowered = quantization.lower_3d(model)
    expected = model.predict(volumes, verbose=0)
    found = lowered.predict(volumes, verbose=0)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))
    assert lowered.count_params() == model.count_params()
    assert not any("3D" in type(layer).__name__ for layer in lowered.layers)
    return lowered


@SEARCH
@given(
    kernel=st.tuples(*[st.integers(1, 5)] * 3), strides=st.sampled_from([1, 2, (1, 2, 2), (2, 1, 1)]), padding=PADDINGS
)
def test_convolutions(kernel, strides, padding):
    assert_same(model_of(layers.Conv3D(3, kernel, strides=strides, padding=padding, activation="relu")))


@SEARCH
@given(pool=st.tuples(*[st.integers(1, 3)] * 3), strides=st.sampled_from([None, 1, 2]), padding=PADDINGS)
def test_pooling(pool, strides, padding):
    for kind in (layers.MaxPooling3D, layers.AveragePooling3D):
        assert_same(model_of(kind(pool, strides=strides, padding=padding)))


@pytest.fixture(scope="module")
def residual_network():
    keras.utils.set_random_seed(0)
    volumes = keras.Input((8, 8, 8, 1))
    x = layers.Rescaling(1 / 255)(volumes)
    x = layers.Conv3D(4, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    shortcut = x
    x = layers.Conv3D(4, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.Add()([layers.BatchNormalization()(x), shortcut]))
    x = layers.Dropout(0.2)(layers.MaxPooling3D()(x))
    x = layers.Conv3D(8, 3, strides=2, activation="relu")(layers.ZeroPadding3D(1)(x))
    pooled = [kind()(x) for kind in (layers.GlobalAveragePooling3D, layers.GlobalMaxPooling3D, layers.Flatten)]
    model = keras.Model(volumes, layers.Dense(3)(layers.Concatenate()(pooled)))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, weights.shape) for weights in layer.get_weights()])
    return model


def test_a_residual_network(residual_network):
    assert_same(residual_network, np.random.default_rng(1).uniform(0, 255, (3, 8, 8, 8, 1)).astype("float32"))


def test_a_lowered_network_is_saved_and_read_again(residual_network, tmp_path):
    lowered = quantization.lower_3d(residual_network)
    lowered.save(tmp_path / "lowered.keras")
    again = keras.saving.load_model(tmp_path / "lowered.keras")
    volumes = np.random.default_rng(1).uniform(0, 255, (2, 8, 8, 8, 1)).astype("float32")
    np.testing.assert_array_equal(again.predict(volumes, verbose=0), lowered.predict(volumes, verbose=0))


@pytest.mark.parametrize(("scheme", "io"), [("float32", "float32"), ("int8", "uint8"), ("int8", "float32")])
def test_files_of_a_lowered_network_have_only_builtin_operators(residual_network, scheme, io):
    volumes = np.random.default_rng(1).integers(0, 256, (16, 8, 8, 8, 1), dtype=np.uint8)
    lowered = quantization.lower_3d(residual_network)
    content = quantization.convert(lowered, scheme, volumes, io)
    found = quantization.audit(content)
    assert found.kind == ("full-integer" if scheme == "int8" else "float")
    assert all("3D" not in item.name and not item.name.startswith("Flex") for item in found.operators)
    scores = quantization.Runner(content)(volumes)
    logits = residual_network.predict(volumes.astype("float32"), verbose=0)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    assert np.abs(scores - expected).max() < (0.05 if scheme == "int8" else 1e-4)
    if scheme == "int8":
        quantized = quantization.with_fake_quantization(lowered)
        quantization.set_ranges(quantized, lowered, volumes)
        agreement = quantization.simulation_agreement(quantized, volumes, scores)
        assert agreement.within_a_step == 1.0


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Conv3D(2, 3, dilation_rate=2), "with groups or dilation"),
        (layers.Conv3DTranspose(2, 3), "Conv3DTranspose"),
        (layers.UpSampling3D(), "UpSampling3D"),
    ],
)
def test_a_layer_that_has_no_2d_form_is_named(layer, message):
    with pytest.raises(InputError, match=f"{layer.name}.*{message}.*cannot be lowered"):
        quantization.lower_3d(model_of(layer))
