"""Models of every structure are explained; the errors for those that cannot be."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import explanation
from keras_vision.keras_internals.graph import read_graph
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend


def test_nested_and_frozen_backbones_need_no_preparation(nested):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    names = ["block_12_expand_relu", "block_1_expand_relu", "block_6_depthwise_relu"]
    actual = explanation.layer_cam(nested, images, 1, layers=names)
    assert [heat.shape for heat in actual] == [(2, 32, 32)] * 3
    assert all(np.isfinite(heat).all() and heat.max() == 1 for heat in actual)


def test_networks_for_any_image_size_are_explained():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 3, strides=2), layers.GlobalMaxPooling2D(), layers.Dense(2)]
    )
    for size in ((9, 12), (6, 7)):
        assert explanation.hires_cam(model, np.ones((2, *size, 1))).shape == (2, *size)


def test_calls_keep_their_lists_keywords_and_operations():
    images = keras.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="maps")(images)
    tokens = layers.Reshape((16, 2))(x)
    tokens = layers.MultiHeadAttention(1, 2)(tokens, value=tokens)
    x = layers.Add()([x, layers.Reshape((4, 4, 2))(tokens)]) * 2 + keras.ops.mean(x, axis=(1, 2), keepdims=True)
    model = keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    batch = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype(np.float32)
    actual = read_graph(model).run(keras.ops.convert_to_tensor(batch))
    expected = model(batch)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (actual, expected)), rtol=1e-5)
    assert read_graph(model).run(keras.Input((4, 4, 2))).shape == (None, 3)
    assert explanation.grad_cam(model, batch, layers="maps").shape == (3, 4, 4)


@pytest.fixture(scope="module")
def model():
    parts = [layers.Conv2D(2, 3, name="maps"), layers.Flatten(name="flat"), layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 1)), *parts])


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
def test_the_error_names_the_mistake(method, change, message, model):
    arguments = {"model": model, "images": np.zeros((2, 6, 6, 1)), **change}
    with pytest.raises(InputError, match=message):
        explanation.METHODS[method](**arguments)


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
