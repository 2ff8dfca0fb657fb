"""The process in which TensorFlow converts models of other backends: it is reused, and its end loses nothing."""

import keras
import pytest
from keras import layers

from keras_vision import quantization
from keras_vision.quantization import tflite
from keras_vision.recipe import InputError

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow converts in its own process"),
]


@pytest.fixture(scope="module")
def model():
    images = keras.Input((8, 8, 3))
    return keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(images))))


def process():
    return tflite._CONVERTER.process.pid


def test_one_process_serves_several_conversions(model):
    first = tflite.convert_float(model)
    number = process()
    assert tflite.convert_float(model) == first
    assert tflite.convert_float(model, dynamic=True) != first
    assert process() == number


def test_a_process_that_has_ended_is_replaced(model):
    first = tflite.convert_float(model)
    number = process()
    tflite._CONVERTER.process.kill()
    assert tflite.convert_float(model) == first
    assert process() != number


def test_an_interruption_leaves_no_answer_for_the_next_request(model, monkeypatch):
    tflite.convert_float(model)
    number = process()

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(tflite._CONVERTER.process.stdout, "readline", interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        tflite.convert_float(model, dynamic=True)
    assert quantization.audit(tflite.convert_float(model)).kind == "float"
    assert process() != number


@pytest.mark.parametrize("scheme", ["float32", "dynamic"])
def test_without_tensorflow_one_sentence_says_what_to_install(model, monkeypatch, scheme):
    monkeypatch.setattr(tflite, "is_installed", lambda: False)
    known = {"float32": "float", "dynamic": "float"}  # A kernel of 6 numbers stays float.
    assert quantization.audit(quantization.convert(model, scheme)).kind == known[scheme]
    images = keras.Input((8, 8, 4))
    other = keras.Model(images, layers.Dense(2)(layers.Flatten()(layers.GroupNormalization(2)(images))))
    with pytest.raises(InputError, match=r"Only TensorFlow's converter knows .* not installed: pip install tensorflow"):
        quantization.convert(other, scheme)


def test_what_cannot_be_converted_is_reported_with_its_reason(model):
    @keras.saving.register_keras_serializable("elsewhere")
    class Own(layers.Layer):
        def call(self, inputs):
            return keras.ops.exp(inputs)

    images = keras.Input((8, 8, 3))
    unknown = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(Own()(images))))
    tflite.convert_float(model)
    number = process()
    with pytest.raises(InputError, match="failed on .*Could not locate class 'Own'.* use KERAS_BACKEND=tensorflow"):
        quantization.convert(unknown, "float32")
    assert process() == number
