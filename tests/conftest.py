"""Shared fixtures. The Keras backend is the process's: `KERAS_BACKEND=torch pytest -m backend`."""

import os
from pathlib import Path

# Import order matters where one process holds both: torch first, or TensorFlow brings the process down.
if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401

import numpy as np
import pytest

from keras_vision.data import synthetic
from keras_vision.recipe import Recipe, override

REAL_DATA = os.environ.get("KERAS_VISION_DATA")


@pytest.fixture
def real_data():
    """Folder of the real data sets; tests that need one of them skip where it is not."""
    if not REAL_DATA or not Path(REAL_DATA).is_dir():
        pytest.skip("needs real images: set KERAS_VISION_DATA to their folder")
    return Path(REAL_DATA)


@pytest.fixture(scope="session")
def lesions():
    return synthetic.lesions(seed=0, size=28)


@pytest.fixture(scope="session")
def smoke_recipe():
    """The derma baseline on so few images that a run takes seconds."""
    return override(Recipe(), data="synthetic", limit=60, epochs=2, batch_size=16, width=4, bootstrap=20, mistakes=6)


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
