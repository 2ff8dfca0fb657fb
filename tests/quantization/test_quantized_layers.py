"""Layers that round: values worked out by hand, the same on every backend."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision.quantization.quantized_layers import FakeQuantize, fake_quantize, fake_quantize_kernel

pytestmark = pytest.mark.backend


def test_values_are_rounded_to_steps_and_cut_off_at_the_ends():
    # Steps of 0.5 with zero at 0: 0.7 is 1.4 steps, so 0.5; 0.8 is 1.6 steps, so 1; the highest is 127 * 0.5.
    found = fake_quantize(keras.ops.convert_to_tensor([0.7, 0.8, -0.3, 100.0, -100.0]), 0.5, 0.0)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), [0.5, 1.0, -0.5, 63.5, -64.0])


def test_a_kernel_is_narrow_and_has_a_scale_for_each_output_channel():
    # Channel 0: 1.27 is 127 steps of .01, and .123 is 12.3 of them. Channel 1: 2.54, and steps of .02.
    kernel = keras.ops.convert_to_tensor([[1.27, -2.54], [0.123, 0.123]])
    found = keras.ops.convert_to_numpy(fake_quantize_kernel(kernel))
    np.testing.assert_allclose(found, [[1.27, -2.54], [0.12, 0.12]], atol=1e-6)


def test_gradients_pass_inside_the_range_and_stop_outside():
    """A weight moves by the learning rate where its product is inside the range, and stays where it is cut off."""
    inputs = keras.Input((2,))
    scaled = layers.Dense(2, use_bias=False, name="dense")(inputs)
    quantizer = FakeQuantize(fixed_range=(0.0, 2.55))
    model = keras.Model(inputs, quantizer(scaled))
    model.get_layer("dense").set_weights([np.array([[1.0, 0.0], [0.0, 9.0]], "float32")])
    model.compile(keras.optimizers.SGD(0.1), loss=lambda truth, found: keras.ops.sum(found))
    model.train_on_batch(np.ones((1, 2), "float32"), np.zeros((1, 2), "float32"))
    (kernel,) = model.get_layer("dense").get_weights()
    np.testing.assert_allclose(kernel, [[0.9, 0.0], [-0.1, 9.0]], atol=1e-6)


def test_a_range_starts_with_the_first_batch_and_follows_slowly():
    quantizer = FakeQuantize(momentum=0.9)
    quantizer(np.array([[-1.0, 3.0]], "float32"), training=True)
    quantizer(np.array([[-2.0, 5.0]], "float32"), training=True)
    assert float(keras.ops.convert_to_numpy(quantizer.low)) == pytest.approx(-1.1)
    assert float(keras.ops.convert_to_numpy(quantizer.high)) == pytest.approx(3.2)
