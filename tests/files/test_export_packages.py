"""What a format of --export needs is known before a training begins."""

import importlib.util

import pytest

from keras_vision import derma
from keras_vision.files import export_packages
from keras_vision.recipe import EXPORTS, InputError

EVERYTHING = {"torch", "tensorflow", "jax", "onnx", "tf2onnx", "onnxruntime", "openvino"}


@pytest.fixture
def installed(monkeypatch):
    """Says which packages are installed."""

    def say(*names):
        monkeypatch.setattr(export_packages, "_is_installed", lambda name: name in names)

    return say


@pytest.mark.parametrize(
    ("format", "own", "writers"),
    [
        ("onnx", "torch", ["torch", "tensorflow"]),
        ("onnx", "tensorflow", ["tensorflow", "torch"]),
        ("onnx", "jax", ["tensorflow", "torch"]),
        ("onnx_int8", "torch", ["tensorflow"]),
        ("openvino", "torch", ["torch", "tensorflow"]),
        ("torch", "jax", ["torch"]),
        ("saved_model", "torch", ["tensorflow"]),
        ("c_array", "jax", []),
    ],
)
def test_the_runs_own_backend_writes_where_it_can(installed, format, own, writers):
    installed(*EVERYTHING)
    assert export_packages.writers(format, own) == writers


def test_another_backend_writes_where_the_own_one_lacks_a_package(installed):
    installed(*EVERYTHING - {"tf2onnx"})
    assert export_packages.writers("onnx", "tensorflow") == ["torch"]


@pytest.mark.parametrize(
    ("format", "there", "sentence"),
    [
        ("onnx", {"torch"}, "needs onnx and onnxruntime, not installed here: pip install 'keras-vision[onnx]'."),
        ("onnx", {"tensorflow", "onnxruntime", "onnx"}, "needs tf2onnx, .* pip install 'keras-vision"),
        ("openvino", {"tensorflow"}, "needs openvino, not installed here: pip install 'keras-vision"),
        ("saved_model", {"torch"}, "is not installed, TensorFlow: pip install tensorflow."),
        ("openvino", {"jax"}, "are not installed, TensorFlow and torch: pip install tensorflow."),
    ],
)
def test_a_missing_package_is_one_sentence_with_a_command(installed, format, there, sentence):
    installed(*there, "jax")
    with pytest.raises(InputError, match=sentence.replace("[", r"\[")):
        export_packages.writers(format, "jax")


def test_a_run_is_refused_before_it_begins(installed, tmp_path, capsys):
    installed("torch", "tensorflow", "jax")
    out = tmp_path / "run"
    assert derma.main(["--data", "synthetic", "--smoke", "--export", "openvino", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: --export openvino needs openvino, not installed here")
    assert list(tmp_path.iterdir()) == []


def test_every_format_has_a_writer_and_a_judge():
    assert list(export_packages.WRITERS) == list(export_packages.JUDGES) == list(EXPORTS)
    assert importlib.util.find_spec("onnxruntime"), "the tests need it: pip install 'keras-vision[dev]'"
