"""The copy of a model with fake quantization; layers that cannot be quantized are named."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import quantization
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend


def test_without_rounding_the_model_is_the_float_model(zoo_model, zoo_images):
    unrounded = quantization.with_fake_quantization(zoo_model, simulate=False)
    expected = zoo_model.predict(zoo_images, verbose=0)
    np.testing.assert_allclose(unrounded.predict(zoo_images, verbose=0), expected, atol=1e-4)


def test_a_layer_that_cannot_be_quantized_is_named_with_what_can():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.GroupNormalization(1, name="up"), layers.Flatten()])
    with pytest.raises(InputError, match="'up' \\(GroupNormalization\\) cannot be quantized. Supported: Conv2D,"):
        quantization.with_fake_quantization(model)


def test_a_model_that_is_not_functional_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(InputError, match="must be functional or a built Sequential"):
        quantization.with_fake_quantization(Subclassed())


def test_a_model_as_deep_as_keras_can_make_it_is_rewritten():
    # A recursion of Keras for each layer from the end; the copy has twice as many.
    x = images = keras.Input((2, 2, 1))
    for _ in range(400):
        x = keras.layers.ReLU(negative_slope=0.5)(keras.layers.Rescaling(1.01)(x))
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    quantized = quantization.with_fake_quantization(model)
    assert len(quantized.layers) > 1200
