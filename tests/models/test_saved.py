"""Models and weights from elsewhere: checked before Keras reads them; no code runs, memory follows the file's size."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_vision.files import hdf5
from keras_vision.models import saved
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend


@pytest.fixture
def network():
    images = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(images)
    return keras.Model(images, keras.layers.Dense(2, name="out")(keras.layers.Flatten()(x)))


@pytest.fixture
def rewrite(network, tmp_path):
    """Saves the network, with a function applied to its configuration, or with other members."""

    def write(change=None, **members):
        path = tmp_path / "model.keras"
        network.save(path)
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        if change is not None:
            config = json.loads(content["config.json"])
            change(config["config"]["layers"])
            content["config.json"] = json.dumps(config)
        content |= {name.replace("_", "."): value for name, value in members.items()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, value in content.items():
                archive.writestr(name, value)
        return path

    return write


def test_a_model_is_read_with_its_weights(network, rewrite, tmp_path):
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    found = saved.read_model(rewrite())
    np.testing.assert_allclose(found.predict(images, verbose=0), network.predict(images, verbose=0), rtol=1e-5)


def test_layers_that_ask_for_more_memory_than_their_weights_are_refused(rewrite):
    def change(layers):
        layers[-1]["config"]["units"] = 2 * 10**9

    with pytest.raises(InputError, match="many times the memory of its weights"):
        saved.read_model(rewrite(change))
    assert keras.Variable.__init__.__qualname__ == "Variable.__init__"
    keras.layers.Dense(3).build((None, 3))


def test_a_lambda_layer_is_not_run(network, tmp_path):
    canary = tmp_path / "canary"

    def payload(x, canary=str(canary)):
        open(canary, "w").close()
        return x

    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(payload)]).save(tmp_path / "code.keras")
    canary.unlink(missing_ok=True)  # Saving runs it, too.
    with pytest.raises(InputError, match="cannot be read as a Keras model"):
        saved.read_model(tmp_path / "code.keras")
    assert not canary.exists()


@pytest.mark.parametrize(
    "config",
    ["[" * 100_000, '{"config":' * 5000 + "1" + "}" * 5000, "", "{}", "null", '{"class_name": 3, "config": 4}'],
)
def test_a_configuration_of_something_else_is_one_sentence(rewrite, config):
    with pytest.raises(InputError, match="cannot be read as a Keras model") as caught:
        saved.read_model(rewrite(config_json=config))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def hdf5_file(fill):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


def expanding(file):
    file.create_dataset("a", (10**5, 10**5), "f4", chunks=(1000, 1000), compression="gzip")


def external_link(file):
    file["a"] = h5py.ExternalLink("/etc/passwd", "/")


def external_data(file):
    file.create_dataset("a", (4,), "f4", external=[("/etc/passwd", 0, 16)])


def of_itself(file):
    file["a/b"] = np.zeros(3)
    file["a/c"] = file["a"]


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (expanding, "would expand"),
        (external_link, "refers to other files"),
        (external_data, "refers to other files"),
        (of_itself, "would expand"),
    ],
)
def test_hostile_weights_are_refused(network, tmp_path, fill, message):
    content = hdf5_file(fill)
    with pytest.raises(InputError, match=f"x.h5 .*{message}"):
        hdf5.check(content, "x.h5")
    (tmp_path / "x.weights.h5").write_bytes(content)
    with pytest.raises(InputError, match=f"--weights .*x.weights.h5 cannot be loaded into tiny .*{message}"):
        saved.load_weights(network, tmp_path / "x.weights.h5", "tiny")


def test_the_bytes_of_all_arrays_are_counted():
    def fill(file):
        file["a"] = np.zeros((3, 5), np.float32)
        file["b/c"] = np.zeros(7, np.float64)

    assert hdf5.check(hdf5_file(fill), "x.h5") == pytest.approx(3 * 5 * 4 + 7 * 8, abs=3)


def test_weights_are_loaded(network, tmp_path):
    network.save_weights(tmp_path / "x.weights.h5")
    before = network.get_layer("conv").get_weights()[0]
    network.get_layer("conv").set_weights([0 * part for part in network.get_layer("conv").get_weights()])
    saved.load_weights(network, tmp_path / "x.weights.h5", "tiny")
    np.testing.assert_array_equal(network.get_layer("conv").get_weights()[0], before)


def test_damaged_weights_are_one_sentence(network, tmp_path):
    network.save_weights(tmp_path / "x.weights.h5")
    content = (tmp_path / "x.weights.h5").read_bytes()
    for part in (b"", content[: len(content) // 2], b"\x89HDF\r\n\x1a\n" + bytes(3000), bytes(100)):
        (tmp_path / "x.weights.h5").write_bytes(part)
        with pytest.raises(InputError, match="cannot be loaded into tiny"):
            saved.load_weights(network, tmp_path / "x.weights.h5", "tiny")


def test_a_device_in_place_of_weights_is_refused_without_reading_it(network, tmp_path, monkeypatch):
    """`/dev/zero` never ends."""
    (tmp_path / "x.weights.h5").symlink_to("/dev/zero")
    monkeypatch.setattr(saved.zipfile, "is_zipfile", lambda path: pytest.fail("It was read."))
    with pytest.raises(InputError, match="cannot be loaded into tiny .*not a regular file"):
        saved.load_weights(network, tmp_path / "x.weights.h5", "tiny")
