"""The contract of every architecture: input shapes, output logits, one flat graph, sizes."""

import keras
import numpy as np
import pytest

from keras_vision import derma, models
from keras_vision.recipe import ARCHITECTURES, InputError, ModelSpec

IMAGES, VOLUMES = (28, 28, 3), (16, 18, 20, 1)
TAKEN = [
    ("plain_cnn", IMAGES),
    ("plain_cnn_3d", VOLUMES),
    ("small_resnet", IMAGES),
    ("small_resnet", VOLUMES),
    ("cifar_resnet", IMAGES),
    ("resnet18", IMAGES),
    ("whitened_cnn", IMAGES),
    ("basic_cnn", IMAGES),
    ("application", IMAGES),
    ("efficientnet_lite0", IMAGES),
    ("efficientnet_lite1", IMAGES),
    ("efficientnet_lite2", IMAGES),
]
# For `application`: a backbone that is small up to this layer.
BACKBONE = {"backbone": "VGG19", "cut_layer": "block2_pool", "input_size": 32}


@pytest.fixture(scope="module", params=TAKEN, ids=lambda pair: f"{pair[0]}-{len(pair[1])}")
def model(request):
    name, shape = request.param
    return models.build(ModelSpec(architecture=name, width=4, **BACKBONE), shape, 7)


def test_every_architecture_is_tested():
    assert {name for name, _ in TAKEN} == set(models.ARCHITECTURES) == set(ARCHITECTURES)


@pytest.mark.backend
def test_images_in_logits_out(model):
    logits = model.predict(np.full((3, *model.input_shape[1:]), 200, np.uint8), verbose=0)
    assert logits.shape == (3, 7)
    assert np.isfinite(logits).all()
    assert not np.allclose(logits.sum(axis=1), 1)


def test_the_graph_is_flat_and_ends_in_a_linear_layer(model):
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.layers[-1].activation is keras.activations.linear


def test_a_normalization_follows_each_convolution(model):
    """Before the activation, so that it folds into the convolution when the network is quantized."""
    if model.name == "basic_cnn":
        pytest.skip("has no normalization, as in the reference notebooks")
    if model.name == "whitened_cnn":
        pytest.skip("normalizes after pooling, on a quarter of the pixels, to train fast")
    if model.name == "vgg19_classifier":
        pytest.skip("has no normalization")
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Conv3D)):
            followers = [node.operation for node in layer._outbound_nodes]
            assert [type(follower) for follower in followers] == [keras.layers.BatchNormalization]


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3), (32, 40, 3)])
@pytest.mark.parametrize(
    "name",
    [
        *("plain_cnn", "small_resnet", "cifar_resnet", "resnet18", "whitened_cnn", "basic_cnn", "application"),
        "efficientnet_lite0",
    ],
)
def test_networks_accept_other_shapes(name, shape):
    model = models.build(ModelSpec(architecture=name, width=4, **BACKBONE), shape, 2)
    assert model.predict(np.zeros((1, *shape)), verbose=0).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("plain_cnn", (12, 28, 3), "images of at least 16"),
        ("plain_cnn", (28, 28, 28, 1), "images of at least 16"),
        ("plain_cnn_3d", (28, 28, 3), "volumes of at least 8"),
        ("plain_cnn_3d", (28, 28, 6, 1), "volumes of at least 8"),
        ("small_resnet", (12, 28, 3), "images of at least 16"),
        ("small_resnet", (12, 28, 28, 1), "volumes of at least 16"),
        ("efficientnet_lite0", (31, 64, 3), "images of at least 32"),
    ],
)
def test_images_of_a_wrong_shape_are_refused(name, shape, message):
    with pytest.raises(InputError, match=f"The network {name} takes {message}"):
        models.build(ModelSpec(architecture=name), shape, 2)


@pytest.mark.parametrize("name", ["resnet18", "cifar_resnet", "application", "efficientnet_lite0"])
def test_an_input_size_does_not_make_a_volume_acceptable(name):
    with pytest.raises(InputError, match=r"takes images .* Received: images of shape \(28, 28, 28, 1\)"):
        models.build(ModelSpec(architecture=name, **{**BACKBONE, "input_size": 32}), (28, 28, 28, 1), 2)


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_half_precision_scales_pixels_in_float32(name, half_precision):
    """1/255 in bfloat16 has an error of 0.4 %, which moves white by a gray level."""
    shape = (16, 16, 16, 1) if name == "plain_cnn_3d" else (32, 32, 3)
    with half_precision():
        model = models.build(ModelSpec(architecture=name, width=4, **BACKBONE), shape, 2)
    policies = {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Rescaling)}
    assert policies == {"float32"}
    assert model.layers[-2].compute_dtype == "bfloat16"


def test_the_reference_notebooks_network_has_its_size():
    assert models.build(derma.RECIPES["baseline"].model, (28, 28, 3), 7).count_params() == 489_927


def test_best_is_under_a_million_parameters():
    assert models.build(derma.RECIPES["best"].model, (28, 28, 3), 7).count_params() < 1_000_000


def test_dropout_can_be_switched_off():
    model = models.build(ModelSpec(dropout_scale=0.0, width=4), (28, 28, 3), 2)
    assert {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)} == {0.0}
