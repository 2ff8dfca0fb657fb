"""ResNets: their sizes, their order of layers, and torchvision's ResNet18 as outside judge."""

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_vision import cifar, models, quantization
from keras_vision.models.resnet import IMAGENET_MEAN, IMAGENET_STD
from keras_vision.recipe import InputError, ModelSpec


def randomized(network):
    """A torch network with statistics, scales and shifts that are not their first ones."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_mean" in name or name.endswith("bias"):
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            elif "running_var" in name or value.ndim == 1:
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return network.eval().to("cpu")


def take_weights(model, network):
    """Puts a torch network's weights where `torchvision_names` says; none may be left over on either side."""
    places, state = models.torchvision_names(model), network.state_dict()
    assert places.keys() == {name for name in state if "num_batches_tracked" not in name}
    assert len(places) == len(model.variables) - sum("seed" in variable.path for variable in model.variables)
    for name, (layer, variable) in places.items():
        value = state[name].detach().cpu().numpy()
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        getattr(model.get_layer(layer), variable).assign(value)


@pytest.mark.backend
@pytest.mark.parametrize(("size", "channels"), [((64, 64), 3), ((45, 58), 3), ((64, 64), 1)])
def test_logits_are_those_of_torchvision(torchvision, size, channels):
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None, num_classes=10)
    if channels == 1:
        network.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    randomized(network)
    model = models.build(
        ModelSpec(architecture="resnet18", width=64, stem="imagenet", head_dropout=0.5), (*size, channels), 10
    )
    take_weights(model, network)
    # Patches of 8 x 8: of the noise of single pixels nothing is left after four halvings.
    patches = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels), dtype=np.uint8)
    images = np.kron(patches, np.ones((1, 8, 8, 1), np.uint8))[:, : size[0], : size[1]]
    mean, std = (np.mean(IMAGENET_MEAN), np.mean(IMAGENET_STD)) if channels == 1 else (IMAGENET_MEAN, IMAGENET_STD)
    normalized = torch.from_numpy(np.float32((images / 255 - mean) / std).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        expected = network(normalized).cpu().numpy()
    assert np.ptp(expected, axis=0).mean() > 0.1  # Logits that follow the images.
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        # By hand: kernels 3*3*3*32 + 6*9*32*32 + (9*32*64 + 5*9*64*64) + (9*64*128 + 5*9*128*128), projections
        # 32*64 + 64*128, four numbers a channel of each normalization, and 128*10 + 10 at the end.
        ("custom", 864 + 55_296 + 202_752 + 811_008 + 10_240 + 4 * (7 * 32 + 7 * 64 + 7 * 128) + 1_290),
        # torchvision's 11,689,512, less 1000 classes' 513,000 and more 10 classes' 5,130, less a 7 x 7 stem's 9,408 and
        # more a 3 x 3 one's 1,728, more two statistics of each of 4,800 normalized channels.
        ("resnet18", 11_689_512 - 513_000 + 5_130 - 9_408 + 1_728 + 9_600),
    ],
)
def test_the_documents_networks_have_their_size(recipe, parameters):
    assert models.build(cifar.RECIPES[recipe].model, (32, 32, 3), 10).count_params() == parameters


@pytest.mark.parametrize(
    ("architecture", "stem", "side", "expected"),
    [
        ("cifar_resnet", "cifar", 32, [(32, 32, 4), (16, 16, 8), (8, 8, 16)]),
        ("resnet18", "cifar", 32, [(32, 32, 4), (16, 16, 8), (8, 8, 16), (4, 4, 32)]),
        ("resnet18", "imagenet", 64, [(16, 16, 4), (8, 8, 8), (4, 4, 16), (2, 2, 32)]),
    ],
)
def test_every_section_but_the_first_halves_the_image(architecture, stem, side, expected):
    model = models.build(ModelSpec(architecture=architecture, width=4, stem=stem), (side, side, 3), 10)
    last = 2 if architecture == "cifar_resnet" else 1
    found = [model.get_layer(f"layer{number + 1}_{last}_relu2").output.shape[1:] for number in range(len(expected))]
    assert found == expected


@pytest.mark.parametrize(("rate", "scale", "expected"), [(0.5, 1.0, [0.5]), (0.5, 0.4, [0.2]), (0.0, 1.0, [])])
def test_dropout_stands_before_the_last_layer(rate, scale, expected):
    spec = ModelSpec(architecture="resnet18", width=2, head_dropout=rate, dropout_scale=scale)
    model = models.build(spec, (16, 16, 1), 3)
    assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == pytest.approx(expected)
    assert isinstance(model.layers[-2], layers.Dropout) == bool(expected)


@pytest.mark.parametrize(("stem", "side"), [("cifar", 7), ("imagenet", 31)])
def test_pictures_that_are_too_small(stem, side):
    with pytest.raises(InputError, match=f"resnet18 takes pictures of at least {side + 1} x {side + 1}"):
        models.build(ModelSpec(architecture="resnet18", stem=stem), (64, side, 3), 10)


@pytest.mark.backend
@pytest.mark.parametrize(
    ("architecture", "stem", "channels"),
    [("cifar_resnet", "cifar", 3), ("resnet18", "cifar", 1), ("resnet18", "imagenet", 3)],
)
def test_an_integer_file_gives_what_its_simulation_says(architecture, stem, channels):
    keras.utils.set_random_seed(0)
    spec = ModelSpec(architecture=architecture, width=4, stem=stem, head_dropout=0.5)
    model = models.build(spec, (32, 36, channels), 5)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 36, channels), dtype=np.uint8)
    quantized = quantization.with_fake_quantization(model)
    quantization.calibrate(quantized, model, images, logits=True)
    content = quantization.convert(quantized, "qat", logits=True)
    found = quantization.Runner(content)(images)
    # Twenty layers with first weights carry a value that was rounded the other way to the end now and then.
    agreement = quantization.simulation_agreement(quantized, images, found, logits=True)
    assert agreement["within_a_step"] >= 0.98
    assert agreement["same_class"] >= 0.98
    expected = model.predict(images, verbose=0)
    assert np.abs(found - expected).max() < 0.2 * np.ptp(expected)
    audit = quantization.audit(content)
    assert audit.kind == "full-integer"
    names = [item.name for item in audit.operators]
    assert names.count("CONV_2D") == sum(isinstance(layer, layers.Conv2D) for layer in model.layers)
    assert names.count("ADD") == sum(isinstance(layer, layers.Add) for layer in model.layers)
