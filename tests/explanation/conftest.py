"""Two networks: one small enough to recompute in NumPy, one with a nested backbone."""

import keras
import numpy as np
import pytest
from keras import layers


@pytest.fixture(scope="package")
def tiny_images():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="package")
def tiny_model():
    """1 x 1 convolution, ReLU, 2 x 2 means, 1 x 1 convolution, ReLU, global average pooling, two dense layers."""
    images = keras.Input((8, 6, 3))
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(4, 1, name="first")(x)
    x = layers.ReLU(name="first_relu")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(5, 1, activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(6, activation="relu")(x)
    model = keras.Model(images, layers.Dense(3)(x))
    rng = np.random.default_rng(1)
    # A positive mean, or hardly any unit would pass its ReLU.
    model.set_weights([rng.normal(0.2, 0.7, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="package")
def nested():
    """A classifier with a frozen backbone as one of its layers."""
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2(weights=None, alpha=0.35, input_shape=(32, 32, 3), include_top=False)
    backbone.trainable = False
    head = [layers.GlobalAveragePooling2D(), layers.Dense(4, activation="softmax")]
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 127.5, offset=-1), backbone, *head])
