"""Shared fixtures: a network with every supported kind of layer, and one trained for integers."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import data, models, quantization, training
from keras_vision.pipeline import tflite_files
from keras_vision.recipe import Recipe, override

# Smoothed labels keep the probabilities away from 0 and 1, where errors of integers would not show.
RECIPE = override(
    Recipe(),
    width=8,
    epochs=8,
    batch_size=32,
    patience=0,
    schedule="cosine",
    learning_rate=3e-3,
    label_smoothing=0.2,
    qat_epochs=1,
)


@pytest.fixture(scope="session")
def train_for_integers(lesions):
    """Trains from a seed: the float network, the one that was fine-tuned for integers, and representative images."""

    def train(seed, epochs=RECIPE.training.epochs):
        recipe = override(RECIPE, epochs=epochs)
        keras.utils.set_random_seed(seed)
        model = models.build(recipe.model, lesions.image_shape, lesions.num_classes)
        batches = data.Batches(lesions.train, lesions.num_classes, recipe.training.batch_size, shuffle=True)
        val = data.Batches(lesions.val, lesions.num_classes, 200)
        training.fit(model, batches, val, recipe.training)
        representative = quantization.representative(lesions.train.images, lesions.train.labels, 128)
        return model, tflite_files.fine_tuned(recipe, model, representative, batches, val), representative

    return train


@pytest.fixture(scope="package")
def zoo_images():
    return np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="package")
def zoo_model():
    """A network whose statistics are not their initial ones."""
    keras.utils.set_random_seed(0)
    images = keras.Input((20, 20, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.3)(x)
    wide = layers.SeparableConv2D(8, 3, strides=2, padding="same", activation="relu6")(x)
    thin = layers.Conv2D(8, 1, strides=2, activation="hard_silu")(x)
    x = layers.ReLU()(layers.Add()([wide, thin]))
    gate = layers.DepthwiseConv2D(3, activation="sigmoid")(layers.ZeroPadding2D(1)(x))
    x = layers.BatchNormalization()(layers.Concatenate()([x, gate]))
    x = layers.AveragePooling2D(2)(x)
    backbone = keras.Sequential([keras.Input((2, 2, 16)), layers.Conv2D(8, 1, activation="silu"), layers.LeakyReLU()])
    x = backbone(x)
    x = layers.Multiply()([x, layers.GlobalAveragePooling2D(keepdims=True)(layers.Activation("tanh")(x))])
    x = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.Flatten()(layers.Activation("elu")(x))])
    x = layers.Dense(16, activation="relu")(x)
    model = keras.Model(images, layers.Dense(5)(x))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            channels = layer.moving_mean.shape
            statistics = [rng.normal(1, 0.5, channels), rng.normal(0, 0.5, channels)]
            layer.set_weights([*statistics, rng.normal(0, 0.5, channels), rng.uniform(0.5, 2, channels)])
    return model
