"""The finished file is run before it is handed out: every planted mistake is caught, and names where it begins."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

from keras_vision import quantization
from keras_vision.quantization import conversion, folding, integer, plain_calls, plain_layers, tflite, writer
from keras_vision.quantization.checking import check_float_file, check_integer_file
from keras_vision.quantization.flatbuffer import FlatModel
from keras_vision.quantization.float_file import write_float_file
from keras_vision.recipe import InputError

SHAPE = (12, 12, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    """Each operator in which a mistake is planted."""
    keras.utils.set_random_seed(0)
    images = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="strided")(x)
    x = layers.BatchNormalization(
        moving_mean_initializer="ones", moving_variance_initializer=keras.initializers.Constant(0.2), name="norm"
    )(x)
    x = layers.LeakyReLU(0.3, name="leaky")(x)
    x = layers.Conv2D(6, 3, padding="same", groups=2, name="grouped")(x)
    x = layers.Concatenate(name="joined")([x, layers.ReLU(name="rectified")(x * 0.7)])
    x = layers.Cropping2D(((1, 0), (0, 1)), name="cropped")(x)
    x = layers.AveragePooling2D(2, strides=1, name="averaged")(x)
    x = layers.Permute((2, 1, 3), name="permuted")(x)
    x = layers.UpSampling2D(name="larger")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="transposed")(x)
    x = layers.Subtract(name="less")([x, layers.Activation("silu", name="gated")(x)])
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6", name="depthwise")(x)
    return keras.Model(images, layers.Dense(4, name="scores")(layers.Flatten()(x)))


def options(name, **fields):
    """A mistake: the schema's options of an operator with some fields replaced."""
    operator = FlatModel.operator

    def changed(self, operator_name, inputs, output, given=None):
        if type(given).__name__ == name:
            vars(given).update(fields)
        return operator(self, operator_name, inputs, output, given)

    return FlatModel, "operator", changed


def result(place, name, change):
    """A mistake: a function's result changed."""
    function = getattr(place, name)
    return place, name, lambda *given, **named: change(function(*given, **named))


def operands_swapped():
    operator = FlatModel.operator

    def swapped(self, name, inputs, *others):
        return operator(self, name, inputs[::-1] if name == "SUB" else inputs, *others)

    return FlatModel, "operator", swapped


def wrong_constant(ending, change):
    """A mistake: the numbers of a constant whose name ends so."""
    constant = writer.Writer.constant
    return (
        writer.Writer,
        "constant",
        lambda self, name, values: constant(self, name, change(values) if name.endswith(ending) else values),
    )


MISTAKES = {
    "slope": lambda: options("LeakyReluOptionsT", alpha=0.1),
    "padding": lambda: options("TransposeConvOptionsT", strideH=1),
    "dilation": lambda: options("DepthwiseConv2DOptionsT", dilationWFactor=2),
    "window": lambda: options("Pool2DOptionsT", filterHeight=1),
    "stride": lambda: options("Conv2DOptionsT", padding=schema.Padding.VALID),
    "operands": operands_swapped,
    "crop": lambda: wrong_constant("_begin", lambda values: 0 * values),
    "axes": lambda: wrong_constant("_order", np.sort),
    "bias": lambda: result(integer, "stored_weights", lambda parts: (*parts[:2], 0 * parts[2])),
    "scale of a kernel": lambda: result(integer, "stored_weights", lambda parts: (1.1 * parts[0], *parts[1:])),
    "range": lambda: result(integer, "range_of", lambda parts: (parts[0] * np.float32(1.2), parts[1])),
    "zero point": lambda: result(integer, "range_of", lambda parts: (parts[0], max(parts[1] - 3, -128))),
    "rounding of kernels": lambda: (folding, "NARROW", 100),
    "statistics": lambda: result(folding, "normalization_parts", lambda parts: (0 * parts[0], *parts[1:])),
    "groups": lambda: result(plain_layers, "_dense_kernel", lambda kernel: kernel[:, :, ::-1]),
    "factor": lambda: result(plain_calls, "per_channel", lambda value: value if value == 0 else 0.9 * value),
    "left out": lambda: (plain_layers.Layers, "activation", lambda self, call, tensor, *_, **__: tensor),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_caught(name, model, monkeypatch):
    monkeypatch.setattr(*MISTAKES[name]())
    with pytest.raises(InputError, match="fault of keras_vision|was copied wrongly|are off by|cannot be run"):
        quantization.convert(model, "int8", IMAGES, logits=True)


@pytest.mark.parametrize(
    "name", ["slope", "padding", "window", "operands", "crop", "axes", "groups", "factor", "left out"]
)
def test_a_planted_mistake_in_a_file_of_floats_is_caught(name, model, monkeypatch):
    monkeypatch.setattr(*MISTAKES[name]())
    monkeypatch.setattr(tflite, "is_installed", lambda: False)
    with pytest.raises(InputError, match="does not compute what the model does|cannot be run"):
        quantization.convert(model, "float32", IMAGES, logits=True)


def test_without_a_mistake_the_file_is_handed_out(model):
    assert quantization.audit(quantization.convert(model, "int8", IMAGES, logits=True)).kind == "full-integer"


def test_a_mistake_names_the_layer_where_it_begins(model, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(*MISTAKES["slope"]())
        with pytest.raises(InputError, match="operator 'leaky' computes something else.* steps"):
            quantization.convert(model, "int8", IMAGES)
    monkeypatch.setattr(*MISTAKES["groups"]())
    with pytest.raises(InputError, match="layer 'grouped' was copied wrongly.*float32 and dynamic can still"):
        quantization.convert(model, "int8", IMAGES)


def test_ranges_that_cut_values_off_give_no_file(model):
    """File and simulation agree then; the float model's own scores say what the file should give."""
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, IMAGES, logits=True)
    mark = quantized.get_layer("leaky_range")
    mark.low.assign(0.1 * mark.low)
    mark.high.assign(0.1 * mark.high)
    written = integer.write_integer_file(quantized, logits=True)
    check_integer_file(written, quantized, IMAGES, (0.0, 255.0))
    with pytest.raises(InputError, match="are off by .* The first layer that is far off is 'leaky'"):
        check_integer_file(written, quantized, IMAGES, (0.0, 255.0), model)


@pytest.mark.parametrize("scheme", ["float32", "dynamic"])
def test_a_float_file_that_computes_something_else_is_not_handed_out(scheme, model, monkeypatch):
    other = keras.models.clone_model(model)
    other.set_weights([1.5 * weight for weight in model.get_weights()])
    content = quantization.convert(other, scheme)
    monkeypatch.setattr(conversion, "write_float_file", lambda *given, **named: content)
    assert quantization.convert(model, scheme) != content  # TensorFlow's converter writes it.
    monkeypatch.setattr(tflite, "convert_float", lambda *given, **named: content)
    with pytest.raises(InputError, match=f"{scheme} file of .* does not compute what the model does"):
        quantization.convert(model, scheme)


def test_a_file_that_litert_refuses_is_not_handed_out(model, monkeypatch):
    monkeypatch.setattr(*options("TransposeConvOptionsT", strideH=1))
    with pytest.raises(InputError, match="cannot be run"):
        quantization.convert(model, "int8", IMAGES)


def test_a_model_that_cannot_be_run_is_refused_in_one_sentence(model, monkeypatch):
    content = write_float_file(model)

    def failing(images):
        raise OSError("no such step")

    monkeypatch.setattr(model, "predict_on_batch", failing)
    with pytest.raises(InputError, match="'functional.*' cannot be run on the images: no such step"):
        check_float_file(content, model, IMAGES, dynamic=False, adds_scores=False)


def test_a_model_that_gives_no_numbers_is_refused():
    images = keras.Input(SHAPE)
    x = layers.Dense(2, bias_initializer=keras.initializers.Constant(np.inf))(layers.Flatten()(images))
    with pytest.raises(InputError, match="not finite"):
        quantization.convert(keras.Model(images, x), "int8", IMAGES, input_range=(0, 255))


def test_a_layer_that_is_always_zero_has_a_range():
    images = keras.Input(SHAPE)
    x = layers.Conv2D(2, 3, activation="relu", bias_initializer=keras.initializers.Constant(-9.0))(
        layers.Rescaling(1 / 255)(images)
    )
    model = keras.Model(images, layers.Dense(2)(layers.Flatten()(x)))
    model.layers[-1].bias.assign([1.0, -1.0])
    found = quantization.Runner(quantization.convert(model, "int8", IMAGES, logits=True))(IMAGES)
    np.testing.assert_allclose(found, [[1.0, -1.0]] * len(IMAGES), atol=0.01)
