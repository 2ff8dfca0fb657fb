"""ResNets: sizes, order of layers, and files; `test_state_dict.py` compares them with torchvision."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import cifar, models, quantization
from keras_vision.recipe import InputError, ModelSpec


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
def test_the_reference_notebooks_networks_have_their_sizes(recipe, parameters):
    assert models.build(cifar.RECIPES[recipe].model, (32, 32, 3), 10).count_params() == parameters


@pytest.mark.parametrize(
    ("architecture", "stem", "side", "expected"),
    [
        ("cifar_resnet", "cifar", 32, [(32, 32, 4), (16, 16, 8), (8, 8, 16)]),
        ("resnet18", "cifar", 32, [(32, 32, 4), (16, 16, 8), (8, 8, 16), (4, 4, 32)]),
        ("resnet18", "imagenet", 64, [(16, 16, 4), (8, 8, 8), (4, 4, 16), (2, 2, 32)]),
    ],
)
def test_every_section_except_the_first_halves_the_image(architecture, stem, side, expected):
    model = models.build(ModelSpec(architecture=architecture, width=4, stem=stem), (side, side, 3), 10)
    last = 2 if architecture == "cifar_resnet" else 1
    shapes = [model.get_layer(f"layer{number + 1}_{last}_relu2").output.shape[1:] for number in range(len(expected))]
    assert shapes == expected


@pytest.mark.parametrize(("rate", "scale", "expected"), [(0.5, 1.0, [0.5]), (0.5, 0.4, [0.2]), (0.0, 1.0, [])])
def test_dropout_precedes_the_last_layer(rate, scale, expected):
    spec = ModelSpec(architecture="resnet18", width=2, head_dropout=rate, dropout_scale=scale)
    model = models.build(spec, (16, 16, 1), 3)
    assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == pytest.approx(expected)
    assert isinstance(model.layers[-2], layers.Dropout) == bool(expected)


def test_images_are_resized_inside_the_network():
    model = models.build(ModelSpec(architecture="resnet18", width=2, stem="imagenet", input_size=64), (28, 20, 1), 3)
    assert model.input_shape == (None, 28, 20, 1)
    assert model.get_layer("conv1").output.shape == (None, 32, 32, 2)


@pytest.mark.parametrize(("stem", "side"), [("cifar", 7), ("imagenet", 31)])
def test_images_that_are_too_small_are_refused(stem, side):
    with pytest.raises(InputError, match=f"resnet18 takes images of at least {side + 1} x {side + 1}"):
        models.build(ModelSpec(architecture="resnet18", stem=stem), (64, side, 3), 10)


@pytest.mark.backend
@pytest.mark.parametrize(
    ("architecture", "stem", "channels", "fields"),
    [
        ("cifar_resnet", "cifar", 3, {}),
        ("resnet18", "cifar", 1, {}),
        # Resized by 2 and 16/9: XNNPACK's weights are multiples of 1/2048, so other factors round differently.
        ("resnet18", "imagenet", 3, {"head_units": 8, "input_size": 64}),
    ],
)
def test_an_integer_file_predicts_as_its_simulation(architecture, stem, channels, fields):
    keras.utils.set_random_seed(0)
    spec = ModelSpec(architecture=architecture, width=4, stem=stem, head_dropout=0.5, **fields)
    model = models.build(spec, (32, 36, channels), 5)
    images = np.random.default_rng(0).integers(0, 256, (64, 32, 36, channels), dtype=np.uint8)
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, images, logits=True)
    content = quantization.convert(quantized, "qat", logits=True)
    outputs = quantization.Runner(content)(images)
    # In twenty layers with initial weights, a few values that round differently reach the output.
    agreement = quantization.simulation_agreement(quantized, images, outputs, logits=True)
    assert agreement.within_a_step >= 0.98
    assert agreement.same_class >= 0.98
    expected = model.predict(images, verbose=0)
    assert np.abs(outputs - expected).max() < 0.2 * np.ptp(expected)
    audit = quantization.audit(content)
    assert audit.kind == "full-integer"
    names = [item.name for item in audit.operators]
    assert names.count("CONV_2D") == sum(isinstance(layer, layers.Conv2D) for layer in model.layers)
    assert names.count("ADD") == sum(isinstance(layer, layers.Add) for layer in model.layers)
