"""Installations without everything: what is installed is used, and what is missing is one sentence."""

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from keras_vision import backend
from keras_vision.files import packages
from keras_vision.recipe import InputError

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements"
FILES = sorted(path.name for path in REQUIREMENTS.glob("*.txt"))
# What a listed package declares and does not need here.
LEFT_OUT = {
    "astunparse": {"wheel"},
    "medmnist": {"fire", "pandas", "scikit-image", "torch", "torchvision"},
    "tensorflow": {"libclang"},
}
# All that predicting with a .tflite file imports, besides the standard library.
PREDICT_NEEDS = ("ai_edge_litert", "cv2", "flatbuffers", "numpy")
FILE = ROOT / "tflite_exports" / "derma-best" / "int8.tflite"


def lines(file):
    """The lines of a requirements file and of those that it includes, without comments."""
    found = []
    for line in (REQUIREMENTS / file).read_text("utf-8").splitlines():
        if line.startswith("-r "):
            found += lines(line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            found.append(line)
    return found


def listed(file):
    return {canonical(line) for line in lines(file) if not line.startswith("-")}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(name):
    """What an installed package declares to need on this machine."""
    needs = map(Requirement, importlib.metadata.requires(name) or [])
    return {canonical(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})}


@pytest.mark.parametrize("file", FILES)
def test_every_listed_package_has_a_version_that_is_tested(file):
    pinned = {canonical(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()}
    assert [line for line in lines(file) if line.startswith("-")] == ["-c ../constraints.txt"]
    assert listed(file) - {"setuptools"} <= pinned  # Installers bring a version of that one.


# What builds the site is in an environment of its own, where `make docs` fails if something is missing.
@pytest.mark.parametrize("file", [file for file in FILES if file != "docs.txt"])
def test_a_list_has_all_that_its_packages_need(file):
    for name in listed(file):
        assert declared(name) <= listed(file) | LEFT_OUT.get(name, set()), name


@pytest.mark.parametrize("name", backend.BACKENDS)
def test_a_backends_list_has_all_that_this_package_needs(name):
    others = {*backend.BACKENDS} - {name}
    assert {*declared("keras-vision"), name} - others <= listed(f"{name}.txt")
    assert not listed(f"{name}.txt") & others


@pytest.fixture
def installed(tmp_path):
    """Runs Python with only some of the installed packages; gives exit status, standard output and standard error."""
    site = tmp_path / "site"
    site.mkdir()
    # The interpreter's own packages are taken off the path, in child processes too.
    (site / "sitecustomize.py").write_text("import sys\nsys.path[:] = [p for p in sys.path if '-packages' not in p]\n")

    def run(names, *arguments, **environment):
        for name in names:
            place = Path(importlib.util.find_spec(name).origin).parent
            libraries = {"cv2": "opencv_python_headless.libs"}.get(name, f"{name}.libs")
            for found in (place, place.parent / libraries):
                if found.exists() and not (site / found.name).exists():
                    (site / found.name).symlink_to(found)
        kept = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
        path = os.pathsep.join([str(site), str(ROOT)])
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": path, "KERAS_HOME": str(tmp_path), **environment},
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def picture(tmp_path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "picture.png"), np.full((28, 28, 3), 120, np.uint8))
    return "picture.png"


@pytest.mark.slow
def test_a_tflite_file_is_predicted_with_by_litert_opencv_and_numpy_alone(installed, picture):
    status, output, error = installed(PREDICT_NEEDS, "keras_vision.predict", str(FILE), picture, "--json")
    assert (status, error) == (0, "")
    assert json.loads(output)[0]["label"] in FILE.with_suffix(".json").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "package"), [("cv2", "opencv-python-headless"), ("ai_edge_litert", "ai-edge-litert")]
)
def test_a_missing_package_is_one_sentence(installed, picture, missing, package):
    rest = [name for name in PREDICT_NEEDS if name != missing]
    sentence = f"error: This needs the package {package}, which is not installed: pip install {package}.\n"
    assert installed(rest, "keras_vision.predict", str(FILE), picture) == (2, "", sentence)


@pytest.mark.slow
def test_without_a_backend_a_run_and_a_keras_model_are_refused_in_one_sentence(installed, picture, tmp_path):
    (tmp_path / "model.keras").touch()
    sentence = "error: No Keras backend is installed: pip install keras and one of tensorflow, jax and torch."
    for arguments in (["derma", "--smoke", "--data", "synthetic"], ["predict", "model.keras", picture]):
        status, output, error = installed(PREDICT_NEEDS, "keras_vision", *arguments)
        assert (status, output) == (2, "")
        assert error.startswith(sentence)
        assert error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_module_that_a_package_lacks_is_a_bug_and_no_missing_package():
    assert packages.sentence(ModuleNotFoundError(name="numpy.nothing")) is None
    assert packages.sentence(ModuleNotFoundError(name="keras_vision.nothing")) is None
    assert packages.sentence(ModuleNotFoundError(name="nothing.inside")) == (
        "This needs the package nothing, which is not installed: pip install nothing."
    )


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A process in which Keras is not imported and only some backends are installed; settings of Keras's keras.json."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    # Set and then deleted, so that what the test sets is taken back.
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_BACKEND")

    def prepare(installed, settings=None):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in installed else None)
        if settings is not None:
            (tmp_path / "keras.json").write_text(settings)

    return prepare


@pytest.mark.parametrize(
    ("installed", "settings", "taken"),
    [
        (("tensorflow", "jax", "torch"), None, None),  # Keras's own choice stays.
        (("jax", "torch"), None, "jax"),
        (("torch",), '{"backend": "tensorflow"}', "torch"),
        (("jax", "torch"), '{"backend": "torch"}', None),
        (("tensorflow", "torch"), '{"backend": "jax"}', "tensorflow"),
        (("torch",), "damaged", "torch"),
        (("torch",), "[]", "torch"),
        ((), '{"backend": "openvino"}', None),  # None of ours, which Keras may have.
    ],
)
def test_the_backend_that_is_there_is_taken(fresh, installed, settings, taken):
    fresh(installed, settings)
    backend.choose_backend()
    assert os.environ.get("KERAS_BACKEND") == taken


def test_without_a_backend_there_is_one_sentence(fresh):
    fresh(())
    with pytest.raises(InputError, match="No Keras backend is installed: pip install keras and one of tensorflow"):
        backend.choose_backend()


def test_a_backend_that_was_named_is_not_replaced(fresh, monkeypatch):
    fresh(("torch",))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(InputError, match="The backend jax is not installed"):
        backend.choose_backend()
