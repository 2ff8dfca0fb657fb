"""Files for other runtimes: their own program computes what the model does, or there is no file."""

import importlib.util
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import quantization
from keras_vision.files import export_packages
from keras_vision.quantization import exporting
from keras_vision.recipe import InputError

FILES = Path(__file__).parents[2] / "tflite_exports"
METADATA = quantization.Metadata("it", "[A test] of a net.", "1.2", "CC0-1.0", ("[a", 'b "c"', "grün", "d", "e"))
ABOUT = {
    "name": "it",
    "description": "[A test] of a net.",
    "version": "1.2",
    "licence": "CC0-1.0",
    "class_names": list(METADATA.labels),
    "input": "RGB, float32, channels last; input_range has the values of black and white",
    "input_shape": ["batch", 20, 20, 3],
    "input_range": [0.0, 255.0],
    "output": "a probability for each class",
}


def small(seed=0):
    keras.utils.set_random_seed(seed)
    images = keras.Input((20, 20, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(layers.Rescaling(1 / 255)(images))
    x = layers.BatchNormalization()(layers.MaxPooling2D()(x))
    return keras.Model(images, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


def probabilities(model, images):
    logits = model.predict(images.astype("float32"), verbose=0)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.backend
def test_onnxruntime_computes_what_a_model_of_this_backend_does(tmp_path, zoo_model, zoo_images):
    import onnxruntime

    found = quantization.export(zoo_model, "onnx", tmp_path, zoo_images, METADATA)
    assert found.largest_difference is not None
    assert found.largest_difference < 1e-5
    assert (found.images, found.same_answer) == (24, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"images": zoo_images.astype("float32")})
    np.testing.assert_allclose(scores, probabilities(zoo_model, zoo_images), atol=1e-5)
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["class_names"]) == ABOUT["class_names"]
    assert json.loads(properties["input_range"]) == [0, 255]


@pytest.mark.slow
@pytest.mark.parametrize("format", ["openvino", "torch", "saved_model"])
def test_each_other_program_computes_what_the_model_does(tmp_path, zoo_model, zoo_images, format):
    if format == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("needs openvino, which the tests do without")
    found = quantization.export(zoo_model, format, tmp_path, zoo_images, METADATA)
    assert found.largest_difference is not None
    assert found.largest_difference < 1e-5
    assert found.bytes > 1000


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    """An ONNX file of `small()` with the metadata, and one without."""
    import onnx

    folder = tmp_path_factory.mktemp("onnx")
    images = np.zeros((2, 20, 20, 3), "uint8")
    quantization.export(small(), "onnx", folder, images, METADATA)
    bare = onnx.load(folder / "model.onnx")
    del bare.metadata_props[:]
    onnx.save(bare, folder / "bare.onnx")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed", "reason"),
    [
        ("model.onnx", 0, None),
        ("model.onnx", 1, "does not compute what the model does: run by onnxruntime .* a score differs by 0"),
        ("bare.onnx", 0, "has lost metadata"),
    ],
)
def test_a_file_of_something_else_is_refused_and_leaves_nothing(
    tmp_path, monkeypatch, zoo_images, onnx_file, name, seed, reason
):
    def copied(model, backend, format, target, about):
        assert about == ABOUT
        shutil.copy(onnx_file / name, target)

    monkeypatch.setattr(exporting, "_written", copied)
    before = tmp_path / "model.onnx"
    before.write_text("mine")
    if reason is None:
        assert quantization.export(small(seed), "onnx", tmp_path, zoo_images, METADATA).images == 24
        assert before.read_bytes() == (onnx_file / name).read_bytes()
        return
    with pytest.raises(InputError, match=reason):
        quantization.export(small(seed), "onnx", tmp_path, zoo_images, METADATA)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert before.read_text() == "mine"


class Doubled(layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def test_a_layer_that_the_writer_does_not_know_is_written_as_what_it_computes(tmp_path, monkeypatch):
    tried = []

    def written(model, backend, format, target, about):
        tried.append([type(layer).__name__ for layer in model.layers])
        return "Could not locate class 'Doubled'"

    monkeypatch.setattr(exporting, "_written", written)
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, layers.Dense(2)(layers.Flatten()(Doubled()(layers.Rescaling(1 / 255)(images)))))
    with pytest.raises(InputError, match="Keras cannot write .* as onnx on .*: Could not locate class 'Doubled'"):
        quantization.export(model, "onnx", tmp_path, np.zeros((2, 8, 8, 3)), METADATA)
    backends = len(export_packages.writers("onnx", keras.backend.backend()))
    assert len(tried) == 2 * backends
    assert "Doubled" not in tried[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_format_is_one_of_those_that_keras_writes(tmp_path):
    with pytest.raises(InputError, match="A format is one of onnx, openvino, torch, saved_model. Received: 'tflite'."):
        quantization.export(small(), "tflite", tmp_path, np.zeros((2, 20, 20, 3)), METADATA)


def test_answers_of_several_sigmoids_are_compared_label_by_label():
    expected = np.array([[0.9, 0.8], [0.1, 0.2]])
    answers = exporting._answers(expected, expected)
    assert (answers == exporting._answers(np.array([[0.9, 0.4], [0.1, 0.2]]), expected)).tolist() == [False, True]


@pytest.mark.slow
def test_onnxruntime_computes_with_the_integers_of_a_tflite_file(tmp_path, monkeypatch, lesions):
    import onnx

    best, other = ((FILES / name / "int8.tflite").read_bytes() for name in ("derma-best", "derma-baseline-augment"))
    images = lesions.test.images[:24]
    found = exporting.export_integers(best, tmp_path, images, METADATA)
    assert found.largest_difference is not None
    assert found.largest_difference < 4 / 256
    operators = [node.op_type for node in onnx.load(tmp_path / "model_int8.onnx").graph.node]
    assert operators.count("QuantizeLinear") > 10
    signed = quantization.convert(small(), "int8", np.zeros((2, 20, 20, 3), "uint8"), "int8")
    random = np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), dtype=np.uint8)
    assert exporting.export_integers(signed, tmp_path, random, METADATA).same_answer == 1
    # A file whose scores are not those of the .tflite file is refused.
    empty = tmp_path / "empty"
    empty.mkdir()
    runner = quantization.Runner(other)
    monkeypatch.setattr(exporting, "Runner", lambda content: runner)
    with pytest.raises(InputError, match="does not compute what the .tflite file does: run by onnxruntime"):
        exporting.export_integers(best, empty, images, METADATA)
    assert list(empty.iterdir()) == []
