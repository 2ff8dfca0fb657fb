"""Shared fixtures. The Keras backend is the process's: `KERAS_BACKEND=torch pytest -m backend`."""

import functools
import gc
import importlib
import os
import urllib.error
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

# First of all frameworks: medmnist, a judge in the tests, imports torch, and after TensorFlow that can bring the
# process down.
import torch

from keras_vision.data import synthetic
from keras_vision.recipe import Recipe, override

# One file for each part of `make test`: two of them run side by side.
RUNNING = Path(__file__).parents[1] / ".pytest_cache" / f"running-{os.environ.get('PART', 'tests')}"
REAL_DATA = os.environ.get("KERAS_VISION_DATA")
# Four fifths of a short training on JAX are LLVM's optimization: an initial kernel of one more shape takes 2.5 s. Not
# level 0, at which the gradient of a maximum can be NaN.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"


def pytest_collection_finish():
    """Has the garbage collector pass over what was imported, a million objects; it took a fifteenth of the time."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logstart(nodeid):
    """Notes the test that runs: native code can end the process, and `make test` then prints which test it was."""
    RUNNING.parent.mkdir(exist_ok=True)
    RUNNING.write_text(f"{nodeid}\n")


def pytest_sessionfinish():
    RUNNING.unlink(missing_ok=True)


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Keeps what JAX compiles for the run: every model's functions are new to it, although most compile to the same."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    # Processes that tests start read these; in this one, JAX has been imported.
    os.environ.update({name.upper(): str(value) for name, value in settings.items()})
    import keras

    if keras.backend.backend() == "jax":
        import jax

        for name, value in settings.items():
            jax.config.update(name, value)


@pytest.fixture(scope="session", autouse=True)
def drawn_once():
    """Keeps the drawn images, which many runs are on: 2,000 of them take a second. Nobody can write into them."""

    def kept(draw):
        @functools.cache
        def draw_and_lock(**how):
            splits = draw(**how)
            for split in (splits.train, splits.val, splits.test):
                split.images.flags.writeable = split.labels.flags.writeable = False
            return splits

        return draw_and_lock

    with pytest.MonkeyPatch.context() as patch:
        for name, draw in synthetic.KINDS.items():
            patch.setitem(synthetic.KINDS, name, kept(draw))
        yield


@pytest.fixture
def real_data():
    """Gives the path of a real data set by its file's name; the test skips where it is not."""

    def find(name):
        path = Path(REAL_DATA or "") / name
        if not REAL_DATA or not path.exists():
            pytest.skip(f"needs real images: {name} in the folder that KERAS_VISION_DATA names")
        return path

    return find


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """A folder with an empty `data` in it, which KERAS_VISION_DATA names, and no network."""
    import keras

    monkeypatch.setenv("KERAS_VISION_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()

    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(keras.utils, "get_file", no_network)
    return tmp_path


@pytest.fixture(scope="session")
def torchvision():
    """The package, a judge in the tests, which comes with medmnist."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("torchvision")
        except RuntimeError:
            # Beside a torch of another build, torchvision lacks these operators.
            for name in ("nms", "qnms"):
                torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
            return importlib.import_module("torchvision")


@pytest.fixture(scope="session")
def lesions():
    return synthetic.lesions(seed=0, size=28)


@pytest.fixture(scope="session")
def smoke_recipe():
    """The derma baseline on so few images that a run takes seconds."""
    return override(
        Recipe(),
        data="synthetic",
        limit=60,
        epochs=2,
        batch_size=16,
        width=4,
        bootstrap=20,
        misclassified=6,
        explain="none",
    )


@pytest.fixture
def write_npz(tmp_path):
    """Writes a file in MedMNIST layout; keyword arguments replace arrays, None leaves one out."""

    def write(name="tiny.npz", *, shape=(28, 28, 3), num_classes=2, counts=(40, 12, 20), **arrays):
        rng = np.random.default_rng(0)
        content = {}
        for split, count in zip(("train", "val", "test"), counts, strict=True):
            labels = np.arange(count) % num_classes
            images = rng.integers(0, 120, (count, *shape), dtype=np.uint8)
            images += (labels * (130 // num_classes)).astype(np.uint8).reshape(-1, *[1] * len(shape))
            content[f"{split}_images"], content[f"{split}_labels"] = images, labels.astype(np.uint8)[:, np.newaxis]
        content.update(arrays)
        path = tmp_path / name
        np.savez(path, **{key: value for key, value in content.items() if value is not None})
        return path

    return write


@pytest.fixture(scope="session")
def scene():
    """Draws a colour picture, from a seed, that is like no other: `(side, side, 3)` uint8."""

    def draw(seed, side=72):
        rng = np.random.default_rng(seed)
        coarse, fine = (
            cv2.resize(rng.random((count, count, 3)), (side, side), interpolation=cv2.INTER_CUBIC) for count in (5, 24)
        )
        return np.clip(255 * (0.7 * coarse + 0.3 * fine), 0, 255).astype(np.uint8)

    return draw


@pytest.fixture
def write_folder(tmp_path, monkeypatch, scene):
    """Writes PNGs into `pictures/CLASS/NUMBER.png` or deeper, counts by folder; caches are in the test's own folder."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))

    def write(counts, name="pictures", side=24):
        root = tmp_path / name
        for number, (inside, count) in enumerate(counts.items()):
            (root / inside).mkdir(parents=True)
            for picture in range(count):
                path = root / inside / f"{picture:03}.png"
                cv2.imwrite(str(path), scene(1000 * number + picture, side))
        return root

    return write


@pytest.fixture(scope="session")
def phone_answers():
    """What MediaPipe's ImageClassifier calls each image: a function of a file's bytes and images."""
    mediapipe = pytest.importorskip("mediapipe", reason="needs mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    def answers(content, images):
        base = BaseOptions(model_asset_buffer=content)
        options = vision.ImageClassifierOptions(base_options=base, max_results=1)
        try:
            classifier = vision.ImageClassifier.create_from_options(options)
        except OSError as error:
            pytest.skip(f"needs a system library of mediapipe's: {error}")
        names = []
        with classifier:
            for image in images:
                picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
                names.append(classifier.classify(picture).classifications[0].categories[0].category_name)
        return names

    return answers
