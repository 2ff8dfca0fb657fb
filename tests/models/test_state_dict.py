"""torchvision's state dicts, loaded and saved, compared with its own network; and invalid files."""

import hashlib
import os
import pickle
import sys

import keras
import numpy as np
import pytest
import torch

from keras_vision import cifar, models
from keras_vision.models import state_dict
from keras_vision.models.resnet import IMAGENET_MEAN, IMAGENET_STD
from keras_vision.recipe import InputError, ModelSpec, override


def spec(weights, **fields):
    """torchvision's network, narrower where the test does not compare with it."""
    return ModelSpec(**{"architecture": "resnet18", "width": 4, "stem": "imagenet", "weights": str(weights), **fields})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A file with torchvision's names, for ten classes of colour images."""
    path = tmp_path_factory.mktemp("torch") / "net.pth"
    models.save_state_dict(models.build(spec("none"), (32, 32, 3), 10), path)
    return path


def patches(size, channels):
    """Images of 8 x 8 patches: noise of single pixels would vanish after four halvings."""
    colors = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels), dtype=np.uint8)
    return np.kron(colors, np.ones((1, 8, 8, 1), np.uint8))[:, : size[0], : size[1]]


def torch_logits(network, images):
    """The torch network's logits."""
    gray = images.shape[-1] == 1
    mean, std = (np.mean(IMAGENET_MEAN), np.mean(IMAGENET_STD)) if gray else (IMAGENET_MEAN, IMAGENET_STD)
    normalized = torch.from_numpy(np.float32((images / 255 - mean) / std).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        return network(normalized).cpu().numpy()


@pytest.mark.parametrize(
    ("size", "channels"), [pytest.param((45, 58), 3, marks=pytest.mark.backend), ((64, 64), 3), ((64, 64), 1)]
)
def test_logits_are_those_of_torchvision(torch_resnet18, tmp_path, size, channels):
    network = torch_resnet18(channels=channels)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    model = models.build(spec(tmp_path / "net.pth", width=64, head_dropout=0.5), (*size, channels), 10)
    images = patches(size, channels)
    expected = torch_logits(network, images)
    assert np.ptp(expected, axis=0).mean() > 0.1  # The logits depend on the images.
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4)


def test_torchvision_loads_a_saved_file_strictly(torchvision, tmp_path):
    """A network with a hidden layer, whose statistics changed in a few steps."""
    keras.utils.set_random_seed(0)
    model = models.build(spec("none", width=64, head_units=6, head_dropout=0.5), (64, 64, 3), 4)
    images = patches((64, 64), 3)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    model.fit(images.astype("float32"), np.eye(4)[[0, 1, 2]], epochs=2, verbose=0)
    models.save_state_dict(model, tmp_path / "net.pth")
    network = torchvision.models.resnet18(weights=None)
    network.fc = torch.nn.Sequential(
        torch.nn.Linear(512, 6), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(6, 4)
    )
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    assert state.keys() == network.state_dict().keys()
    network.load_state_dict(state, strict=True)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(torch_logits(network.eval().to("cpu"), images), expected, atol=1e-4)


def test_a_saved_file_is_loaded_without_a_change(saved, tmp_path):
    model = models.build(spec(saved), (32, 32, 3), 10)
    models.save_state_dict(model, tmp_path / "back.pth")
    first, back = torch.load(saved, weights_only=True), torch.load(tmp_path / "back.pth", weights_only=True)
    assert first.keys() == back.keys()
    for name, tensor in first.items():
        assert tensor.shape == back[name].shape
        assert tensor.dtype == back[name].dtype
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=0)


def test_a_checkpoint_of_parallel_half_precision_training(saved, tmp_path, capsys):
    """`{"state_dict": ...}` with `module.` before every name."""
    state = {f"module.{name}": tensor.half() for name, tensor in torch.load(saved, weights_only=True).items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "checkpoint.pth")
    model = models.build(spec(tmp_path / "checkpoint.pth"), (32, 32, 3), 10)
    expected = state["module.fc.weight"].float().numpy().T
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("logits").kernel), expected)
    assert capsys.readouterr().out == f"Weights loaded from {tmp_path / 'checkpoint.pth'}.\n"


@pytest.mark.parametrize("fields", [{}, {"head_units": 8}])
def test_another_head_is_skipped_and_reported(saved, capsys, fields):
    model = models.build(spec(saved, **fields), (32, 32, 3), 7)
    assert "except the last layer" in capsys.readouterr().out
    kernel = torch.load(saved, weights_only=True)["layer4.1.conv2.weight"].numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("layer4_1_conv2").kernel), kernel)


def test_a_file_without_a_head_is_a_backbone(saved, tmp_path, capsys):
    state = {name: tensor for name, tensor in torch.load(saved, weights_only=True).items() if "fc" not in name}
    torch.save(state, tmp_path / "backbone.pth")
    models.build(spec(tmp_path / "backbone.pth"), (32, 32, 3), 10)
    assert "except the last layer" in capsys.readouterr().out


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_kernel_is_converted_to_gray_and_back(tmp_path, channels):
    models.save_state_dict(models.build(spec("none"), (32, 32, 4 - channels), 10), tmp_path / "net.pth")
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    model = models.build(spec(tmp_path / "net.pth"), (32, 32, channels), 10)
    actual = keras.ops.convert_to_numpy(model.get_layer("conv1").kernel)
    kernel = state["conv1.weight"].numpy().transpose(2, 3, 1, 0)
    expected = kernel.sum(axis=2, keepdims=True) if channels == 1 else np.concatenate([kernel] * 3, axis=2) / 3
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bn1.weight": None}, r"missing: bn1.weight\)"),
        ({"layer5.0.conv1.weight": torch.zeros(3)}, r"unexpected: layer5.0.conv1.weight\)"),
        ({"bn1.bias": torch.zeros(32)}, r"of another shape: bn1.bias, \(32,\) where \(4,\) is needed\)"),
        (
            {"conv1.weight": torch.zeros(4, 3, 3, 3)},
            r"conv1.weight, \(4, 3, 3, 3\) where \(4, 3, 7, 7\) is needed\)",
        ),
        ({f"bn{number}.bias": torch.zeros(1) for number in range(2, 8)}, "unexpected: .*, .*, .* and 3 more"),
    ],
)
def test_every_weight_that_does_not_fit_is_named(saved, tmp_path, change, message):
    state = {**torch.load(saved, weights_only=True), **change}
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "net.pth")
    with pytest.raises(InputError, match=message) as caught:
        models.build(spec(tmp_path / "net.pth"), (32, 32, 3), 10)
    assert "--stem imagenet --width 64" in str(caught.value)


class Harmful:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def test_a_file_that_could_run_code_is_not_opened(tmp_path):
    torch.save({"conv1.weight": Harmful(tmp_path / "harm")}, tmp_path / "net.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    for name in ("net.pth", "plain.pth"):
        with pytest.raises(InputError, match="has more than tensors and could run code; it was not opened"):
            models.build(spec(tmp_path / name), (32, 32, 3), 10)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path, content: path.write_bytes(content[: len(content) // 2]), "cannot be read"),
        (lambda path, content: path.write_bytes(b""), "cannot be read"),
        (lambda path, content: path.write_bytes(b"\x89PNG\r\n" * 9), "not opened|cannot be read"),
        (lambda path, content: torch.save(torch.zeros(3), path), "has other content"),
        (lambda path, content: torch.save({}, path), "has other content"),
        (lambda path, content: torch.save({"epoch": 3}, path), "has other content"),
        # Values that are not in the file: one that is repeated, none, and few of many.
        (lambda path, content: torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path), "not plain arrays"),
        (lambda path, content: torch.save({"a": torch.zeros(3, device="meta")}, path), "not plain arrays"),
        (lambda path, content: torch.save({"a": torch.eye(3).to_sparse()}, path), "not plain arrays"),
        (lambda path, content: torch.save({"a": torch.zeros(3, dtype=torch.complex64)}, path), "not plain arrays"),
        (lambda path, content: torch.save({"a\nb": torch.zeros(3)}, path), "names that are no layers'"),
        (lambda path, content: torch.save({"a" * 1000: torch.zeros(3)}, path), "names that are no layers'"),
    ],
)
def test_a_file_that_is_not_a_state_dict(saved, tmp_path, write, message):
    path = tmp_path / "net.pth"
    write(path, saved.read_bytes())
    with pytest.raises(InputError, match=message) as caught:
        models.build(spec(path), (32, 32, 3), 10)
    assert "\n" not in str(caught.value)
    assert "--weights takes a torch state dict" in str(caught.value)


def test_without_torch_the_error_says_how_to_install_it(saved, monkeypatch):
    model = models.build(spec("none"), (32, 32, 3), 10)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="pip install torch"):
        models.load_state_dict(model, saved)


@pytest.fixture
def home(offline, monkeypatch):
    """A folder without weights, and no network."""
    monkeypatch.setenv("KERAS_HOME", str(offline / "keras"))
    return offline


def test_the_url_is_torchvisions_and_has_the_hash(torchvision):
    assert torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url == state_dict.URL
    assert state_dict.SHA256.startswith(state_dict.URL.rpartition("-")[2].removesuffix(".pth"))


def test_without_a_network_three_ways_out_are_named(home, capsys):
    flags = ["--recipe", "resnet18", "--stem", "imagenet", "--weights", "imagenet", "--data", "synthetic"]
    assert cifar.main([*flags, "--limit", "20", "--out", str(home / "run")]) == 2
    error = capsys.readouterr().err
    place = str(home / "keras" / "models" / "resnet18-f37072fd.pth")
    for part in (state_dict.URL, place, "no route to host", "--weights PATH", "--weights none"):
        assert part in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("folder", ["data", "keras/models"])
def test_a_file_of_that_name_is_checked_in_every_folder(home, saved, monkeypatch, folder):
    (home / folder).mkdir(parents=True, exist_ok=True)
    (home / folder / "resnet18-f37072fd.pth").write_bytes(saved.read_bytes())
    with pytest.raises(InputError, match="is not torchvision's ResNet18: its SHA-256 is .* --weights PATH"):
        models.build(spec("imagenet", width=64), (32, 32, 3), 10)
    monkeypatch.setattr(state_dict, "SHA256", hashlib.sha256(saved.read_bytes()).hexdigest())
    assert models.imagenet_file() == home / folder / "resnet18-f37072fd.pth"


def test_a_download_is_checked(home, saved, monkeypatch):
    request = {}

    def get_file(name, url, **arguments):
        request.update(name=name, url=url, **arguments)
        return str(saved)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert models.imagenet_file() == saved
    assert request == {
        "name": "resnet18-f37072fd.pth",
        "url": state_dict.URL,
        "file_hash": state_dict.SHA256,
        "hash_algorithm": "sha256",
        "cache_dir": home / "keras" / "models",
        "cache_subdir": "",
    }


@pytest.mark.parametrize("fields", [{"stem": "cifar"}, {"width": 32}, {"architecture": "cifar_resnet"}])
def test_imagenet_weights_are_only_for_their_network(home, fields):
    recipe = override(cifar.RECIPES["resnet18"], **{"stem": "imagenet", "weights": "imagenet", **fields})
    with pytest.raises(InputError, match="--architecture resnet18 --stem imagenet --width 64. Received"):
        models.build(recipe.model, (32, 32, 3), 10)
