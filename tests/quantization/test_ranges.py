"""Scales and zero points, worked out by hand."""

import numpy as np
import pytest

from keras_vision.quantization.ranges import logits_range, parameters, weight_scales


def test_a_range_from_zero_to_255_has_steps_of_one_and_zero_at_the_lowest_integer():
    assert parameters(0.0, 255.0) == (1.0, -128)


def test_a_range_is_widened_to_include_zero():
    assert parameters(51.0, 102.0) == (pytest.approx(0.4), -128)
    assert parameters(-102.0, -51.0) == (pytest.approx(0.4), 127)


def test_zero_is_a_whole_number():
    # 4 / 255 a step; -128 - (-1) / (4 / 255) = -64.25, rounded.
    assert parameters(-1.0, 3.0) == (pytest.approx(4 / 255), -64)


def test_each_output_channels_largest_weight_becomes_127():
    kernel = np.array([[1.27, -0.5], [-0.3, 2.54]])
    np.testing.assert_allclose(weight_scales(kernel, np.zeros(2), 1.0), [0.01, 0.02], rtol=1e-6)


def test_a_channel_of_no_weights_has_a_step_that_keeps_its_bias_within_32_bits():
    scales = weight_scales(np.zeros((3, 1)), np.array([8.0]), 0.5)
    assert abs(8.0 / (0.5 * scales[0])) <= 2**30


def test_logits_whose_probabilities_are_almost_0_are_cut_off():
    # Two classes between -2 and 2, and one with a probability of almost 0: e^-60, and so is e^-12.
    logits = np.stack([np.linspace(-2, 2, 50), np.linspace(2, -2, 50), np.full(50, -60.0)], axis=1)
    low, high = logits_range(logits)
    assert -13 < low < -4
    assert 1.9 < high <= 2.0


def test_a_single_logit_is_that_of_a_sigmoid():
    low, high = logits_range(np.linspace(-40, 3, 200)[:, np.newaxis])
    assert -12 < low < -3
    assert high == pytest.approx(3, abs=0.4)
