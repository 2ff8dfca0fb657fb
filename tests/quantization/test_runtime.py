"""Running a file: the same probabilities from every input type and ending; its tensors by name."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import softmax

from keras_vision import quantization
from keras_vision.quantization.metadata import input_range
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
SCORE_STEP = 1 / 256


def model_of(*first, units=4, activation=None):
    """A convolution and a dense layer whose logits differ enough between images for any error to be seen."""
    keras.utils.set_random_seed(0)
    spread = keras.initializers.RandomNormal(stddev=0.7)
    return keras.Sequential(
        [
            keras.Input(IMAGES.shape[1:]),
            *first,
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.Flatten(name="flat"),
            layers.Dense(units, activation=activation, kernel_initializer=spread, name="dense"),
        ]
    )


@pytest.fixture(scope="module")
def model():
    return model_of(layers.Rescaling(1 / 127.5, offset=-1))


@pytest.fixture(scope="module")
def quantized(model):
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, IMAGES)
    return quantized


def test_a_float_file_for_minus_1_to_1_gets_pixels_in_its_range():
    model = model_of()
    metadata = quantization.Metadata("tiny", "", "1", "CC0", tuple("abcd"), mean=127.5, std=127.5)
    content = quantization.add_metadata(quantization.convert(model, "float32"), metadata)
    expected = softmax(model.predict(IMAGES / np.float32(127.5) - 1, verbose=0), axis=-1)
    assert np.ptp(expected, axis=0).max() > 0.1
    for values in ((-1, 1), input_range(quantization.read_metadata(content))):
        runner = quantization.Runner(content, input_range=values)
        np.testing.assert_allclose(runner.probabilities(IMAGES), expected, atol=1e-5)
    unscaled = quantization.Runner(content).probabilities(IMAGES)
    assert np.abs(unscaled - expected).max() > 0.1


def test_a_range_per_channel_scales_each_channel():
    mean, std = np.array([120.0, 110.0, 100.0]), np.array([60.0, 50.0, 40.0])
    model = model_of()
    values = (0 - mean) / std, (255 - mean) / std
    runner = quantization.Runner(quantization.convert(model, "float32"), input_range=values)
    expected = softmax(model.predict(((IMAGES - mean) / std).astype("float32"), verbose=0), axis=-1)
    np.testing.assert_allclose(runner.probabilities(IMAGES), expected, atol=1e-5)


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_an_integer_file_with_the_range_of_its_bytes_equals_the_file_fed_with_bytes(quantized, io):
    """The input's rescaling is part of the file's scale, so its real values for the bytes 0 and 255 are -1 and 1."""
    content = quantization.convert(quantized, "qat", io=io)
    by_bytes = quantization.Runner(content)
    assert by_bytes.input_type == io
    low, high = by_bytes.representable
    assert (low, high) == pytest.approx((-1, 1), abs=2 / 255)
    by_range = quantization.Runner(content, input_range=(low, high))
    np.testing.assert_allclose(by_range(IMAGES), by_bytes(IMAGES), atol=1.01 * SCORE_STEP)
    halved = quantization.Runner(content, input_range=(low / 2, high / 2))
    assert np.abs(halved(IMAGES) - by_bytes(IMAGES)).max() > 2 * SCORE_STEP


def test_values_outside_an_integer_input_are_clipped(quantized):
    content = quantization.convert(quantized, "qat", io="int8")
    white = np.full((1, *IMAGES.shape[1:]), 255, np.uint8)
    runner = quantization.Runner(content, input_range=(-10, 10))
    np.testing.assert_array_equal(runner(white), quantization.Runner(content)(white))


def test_a_float_input_has_no_representable_range(quantized):
    assert quantization.Runner(quantization.convert(quantized, "qat", io="float32")).representable is None


@pytest.mark.parametrize(("scheme", "tolerance"), [("float32", 1e-6), ("qat", 1.51 * SCORE_STEP)])
def test_probabilities_of_a_file_that_ends_in_logits(model, quantized, scheme, tolerance):
    source = quantized if scheme == "qat" else model
    without, with_logits = (
        quantization.Runner(quantization.convert(source, scheme, logits=logits)) for logits in (False, True)
    )
    assert (without.ends_in, with_logits.ends_in) == ("SOFTMAX", None)
    found = with_logits.probabilities(IMAGES)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(found, without.probabilities(IMAGES), atol=tolerance)
    np.testing.assert_array_equal(without.probabilities(IMAGES), without(IMAGES))


@pytest.mark.parametrize("logits", [False, True])
def test_one_output_means_two_classes_and_is_the_second(logits):
    scale = layers.Rescaling(1 / 255)
    model = model_of(scale, units=1, activation=None if logits else "sigmoid")
    runner = quantization.Runner(quantization.convert(model, "float32", logits=logits))
    assert (runner.num_classes, runner.ends_in) == (1, None if logits else "LOGISTIC")
    found = runner.probabilities(IMAGES)
    expected = model.predict(IMAGES, verbose=0)[:, 0]
    assert found.shape == (len(IMAGES), 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-expected)) if logits else expected, atol=1e-5)


def test_the_outputs_of_an_integer_files_operators_are_listed_once_and_in_order(quantized):
    runner = quantization.Runner(quantization.convert(quantized, "qat"), keep_tensors=True)
    assert runner.image_shape == (8, 8, 3)
    assert runner.feature_shapes() == [
        ("images_int8", (8, 8, 3), False),
        ("conv_relu", (6, 6, 5), True),
        ("flat", (180,), False),
        ("dense", (4,), False),
        ("scores_int8", (4,), False),
        ("scores", (4,), False),
    ]


def test_feature_maps_are_read_by_name(model, quantized):
    content = quantization.convert(quantized, "qat")
    runner = quantization.Runner(content, keep_tensors=True)
    expected = quantization.float_tensors(model, IMAGES)["conv_relu"]
    found = runner.feature_maps(IMAGES, "conv_relu")
    assert found.shape == expected.shape == (len(IMAGES), 6, 6, 5)
    np.testing.assert_allclose(found, expected, atol=4 * np.ptp(expected) / 255)
    with pytest.raises(InputError, match="no feature maps called 'dense'. Its last ones: images_int8, conv_relu."):
        runner.feature_maps(IMAGES, "dense")
    with pytest.raises(ValueError, match="only with keep_tensors=True. Received: keep_tensors=False"):
        quantization.Runner(content).feature_maps(IMAGES, "conv_relu")


def test_the_error_of_a_tensor_is_relative_to_its_float_values(model):
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, IMAGES, logits=True)
    content = quantization.convert(quantized, "qat", logits=True)
    tensors = quantization.float_tensors(model, IMAGES)
    largest, other = quantization.tensor_errors(content, IMAGES, tensors)
    assert {largest.tensor, other.tensor} == {"conv_relu", "dense"}
    assert 0 < other.relative_error <= largest.relative_error < 0.05
    doubled = quantization.tensor_errors(content, IMAGES, {"conv_relu": 2 * tensors["conv_relu"]})
    assert [error.tensor for error in doubled] == ["conv_relu"]
    assert doubled[0].relative_error == pytest.approx(0.5, abs=0.03)


def test_latencies_are_milliseconds_by_file(quantized):
    contents = {"one": quantization.convert(quantized, "qat")}
    milliseconds = quantization.latencies(contents, IMAGES[0], rounds=1, calls=2)
    assert 0 < milliseconds["one"] < 1000
