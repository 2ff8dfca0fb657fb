"""Which layer is explained, and what is said where that cannot be."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import explanation, models
from keras_vision.explanation.feature_layers import find_steps, last_feature_step
from keras_vision.graph import read_graph
from keras_vision.recipe import InputError, ModelSpec

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def nested():
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(32, 32, 3), include_top=False)
    backbone.trainable = False
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4, activation="softmax")]
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 127.5, offset=-1), backbone, *head])


def chosen(model):
    graph = read_graph(model)
    return last_feature_step(graph, graph.shapes(graph.input_shape)).path


def test_nested_and_frozen_backbones_need_no_preparation(nested):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    names = ["block_12_add", "block_1_expand_relu", "block_6_project"]
    found = explanation.grad_cam(nested, images, 1, layers=names)
    assert [heat.shape for heat in found] == [(2, 32, 32)] * 3
    assert all(np.isfinite(heat).all() and heat.max() == 1 for heat in found)


def test_the_last_layer_is_found_inside_a_nested_backbone(nested):
    bigger = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(64, 64, 3), include_top=False)
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4)]
    model = keras.Sequential([keras.Input((64, 64, 3)), bigger, *head])
    assert chosen(model).endswith("/out_relu")
    # At 32 pixels the backbone ends in maps of one pixel, which say nothing; the last larger ones are taken.
    assert chosen(nested).endswith("block_13_expand_relu")


@pytest.mark.parametrize(("architecture", "name"), [("plain_cnn", "block4_relu"), ("small_resnet", None)])
def test_the_last_layer_of_the_packages_networks_is_the_one_before_pooling(architecture, name):
    model = models.build(ModelSpec(architecture=architecture, width=4), (28, 28, 3), 7)
    graph = read_graph(model)
    step = last_feature_step(graph, graph.shapes(graph.input_shape))
    if name is not None:
        assert step.path == name
    users = [other.layer for other in graph.steps if step.output in other.inputs]
    assert all("pool" in type(layer).__name__.lower() for layer in users)


def test_networks_of_any_image_size_are_explained():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 3, strides=2), layers.GlobalMaxPooling2D(), layers.Dense(2)]
    )
    for size in ((9, 12), (6, 7)):
        assert explanation.hires_cam(model, np.ones((2, *size, 1))).shape == (2, *size)


def test_calls_keep_their_lists_their_keywords_and_their_operations():
    images = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="maps")(images)
    tokens = layers.Reshape((16, 2))(x)
    tokens = layers.MultiHeadAttention(1, 2)(tokens, value=tokens)
    x = layers.Add()([x, layers.Reshape((4, 4, 2))(tokens)]) * 2 + keras.ops.mean(x, axis=(1, 2), keepdims=True)
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    pictures = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(np.float32)
    found = read_graph(model).run(keras.ops.convert_to_tensor(pictures))
    expected = model(pictures)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (found, expected)), rtol=1e-5)
    assert read_graph(model).run(keras.Input((4, 4, 2))).shape == (None, 3)
    assert explanation.grad_cam(model, pictures, layers="maps").shape == (3, 4, 4)


def small(name=None):
    parts = [layers.Conv2D(2, 3, name="maps"), layers.Flatten(name="flat"), layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 1)), *parts], name=name)


@pytest.fixture(scope="module")
def model():
    return small()


def test_a_name_that_two_backbones_share_has_to_be_given_in_full():
    images = keras.Input((6, 6, 1))
    both = keras.Model(images, layers.Add()([small("left")(images), small("right")(images)]))
    graph = read_graph(both)
    with pytest.raises(InputError, match="Several layers are called 'maps'.*left/maps, right/maps"):
        find_steps(graph, graph.shapes((6, 6, 1)), "maps")
    assert find_steps(graph, graph.shapes((6, 6, 1)), "right/maps")[0].path == "right/maps"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": "mapps"}, "no layer 'mapps'. Near it: maps"),
        ({"layers": ["maps", "qqqqqqqqqqq"]}, "no layer 'qqqqqqqqqqq'. The last ones: maps, flat"),
        ({"layers": "flat"}, r"needs feature maps .* Received: layers='flat', whose output has shape \(32,\)"),
        ({"target_classes": 3}, "classes 0 to 2. Received: target_classes=3"),
        ({"target_classes": [0, -1]}, "classes 0 to 2. Received"),
        ({"target_classes": [0, 1, 2]}, "one for each of the 2 images"),
        ({"target_classes": 0.5}, "whole number"),
        ({"images": np.zeros((2, 5, 6, 1))}, r"shape \('N', 6, 6, 1\). Received: shape \(2, 5, 6, 1\)"),
        ({"images": np.zeros((6, 6, 1))}, "Received: shape"),
        ({"images": np.zeros((0, 6, 6, 1))}, "Received: shape"),
        ({"model": "a.keras"}, "needs a Keras model. Received: str"),
    ],
)
@pytest.mark.parametrize("method", ["grad-cam", "score-cam"])
def test_a_mistake_is_told_in_a_sentence(method, change, message, model):
    given = {"model": model, "images": np.zeros((2, 6, 6, 1)), **change}
    with pytest.raises(InputError, match=message):
        explanation.METHODS[method](**given)


def test_models_without_a_graph_and_without_feature_maps_are_refused(model):
    class Subclassed(keras.Model):
        def call(self, images):
            return images

    with pytest.raises(InputError, match="must be functional"):
        explanation.grad_cam(Subclassed(), np.zeros((1, 6, 6, 1)))
    flat = keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(InputError, match="no layer with feature maps"):
        explanation.layer_cam(flat, np.zeros((1, 6, 6, 1)))
    with pytest.raises(InputError, match="not layers. Received: layers='maps'"):
        explanation.integrated_gradients(model, np.zeros((1, 6, 6, 1)), layers="maps")
