"""The reference for contrast, saturation and hue is torchvision."""

import numpy as np
import pytest
import torch

from keras_vision.data.augmentation import augment, transform
from keras_vision.data.color_jitter import change_contrast, change_hue, change_saturation
from keras_vision.data.draws import uniforms
from keras_vision.recipe import AugmentationSpec, InputError

CHANGES = {"contrast": change_contrast, "saturation": change_saturation, "hue": change_hue}


def colours(count=60, channels=3):
    """Images of every colour, with a gray, a red, a black and a white one."""
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28, channels)).astype(np.float32)
    images[0] = 128
    images[1, ..., 1:] = 0
    images[2], images[3] = 0, 255
    return images


def changed(name, images, numbers):
    result = images.copy()
    CHANGES[name](result, np.asarray(numbers))
    return result


def test_contrast_by_hand():
    images = np.array([[50, 100], [100, 150]], np.float32).reshape(1, 2, 2, 1)
    assert changed("contrast", images, [0.5]).ravel().tolist() == [75, 100, 100, 125]
    assert changed("contrast", images, [0.0]).ravel().tolist() == [100] * 4
    assert changed("contrast", images, [4.0]).ravel().tolist() == [0, 100, 100, 255]


def test_saturation_by_hand():
    red = np.array([100, 0, 0], np.float32).reshape(1, 1, 1, 3)
    assert np.allclose(changed("saturation", red, [0.0]).ravel(), [29.9, 29.9, 29.9], atol=1e-4)
    assert np.allclose(changed("saturation", red, [0.5]).ravel(), [64.95, 14.95, 14.95], atol=1e-4)


def test_a_third_of_a_turn_makes_red_green_and_green_blue():
    red, green, blue = 200 * np.eye(3, dtype=np.float32).reshape(3, 1, 1, 1, 3)
    assert np.allclose(changed("hue", red, [1 / 3]), green, atol=1e-3)
    assert np.allclose(changed("hue", green, [1 / 3]), blue, atol=1e-3)
    assert np.allclose(changed("hue", red, [-1 / 3]), blue, atol=1e-3)


@pytest.mark.parametrize(("name", "low", "high"), [("contrast", 0, 2), ("saturation", 0, 2), ("hue", -0.5, 0.5)])
def test_results_match_torchvision(torchvision, name, low, high):
    images, numbers = colours(), np.random.default_rng(1).uniform(low, high, 60)
    numbers[10:12] = low, high
    function = getattr(torchvision.transforms.functional, f"adjust_{name}")
    pixels = torch.from_numpy(images / 255).permute(0, 3, 1, 2)
    expected = torch.stack([function(one, number) for one, number in zip(pixels, numbers, strict=True)])
    error = np.abs(changed(name, images, numbers) - 255 * expected.permute(0, 2, 3, 1).numpy())
    # torchvision rounds red's weight to .2989, which makes .0255 of the lightest red.
    assert error.max() < 0.03


@pytest.mark.parametrize("name", CHANGES)
def test_the_middle_of_the_range_changes_nothing(name):
    images = colours()
    middle = np.zeros(60) if name == "hue" else np.ones(60)
    assert np.abs(changed(name, images, middle) - images).max() < 1e-3


def test_the_order_is_brightness_contrast_saturation_hue():
    images = colours()
    numbers = {"brightness": np.full(60, 1.3), "contrast": np.full(60, 1.6)}
    numbers |= {"saturation": np.full(60, 1.7), "hue": np.full(60, 0.2)}
    expected = transform(images.astype(np.uint8), {"brightness": numbers["brightness"]})
    for name in ("contrast", "saturation", "hue"):
        expected = changed(name, expected, numbers[name])
    assert np.array_equal(transform(images.astype(np.uint8), numbers), expected)
    assert expected.min() >= 0
    assert expected.max() <= 255


def test_a_knob_of_c_gives_factors_from_1_minus_c_to_1_plus_c():
    checks = np.zeros((4000, 2, 2, 3), np.uint8)
    checks[:, 0] = 100, 110, 130
    checks[:, 1] = 20, 50, 40
    spread = np.ptp(augment(checks, AugmentationSpec(contrast=0.3), uniforms(0, 0, 4000))[..., 0], axis=(1, 2)) / 80
    assert 0.7 <= spread.min() < 0.701
    assert 1.299 < spread.max() <= 1.3001
    spread = np.ptp(augment(checks, AugmentationSpec(saturation=0.4), uniforms(0, 0, 4000))[:, 0, 0], axis=1) / 30
    assert 0.5999 <= spread.min() < 0.601
    assert 1.399 < spread.max() <= 1.4001
    red = np.zeros((4000, 2, 2, 3), np.uint8)
    red[..., 0] = 240
    # Within a sixth of a turn, red keeps its value: at .1, green or blue rises by at most 144.
    turned = augment(red, AugmentationSpec(hue=0.1), uniforms(0, 0, 4000))
    assert np.allclose(turned[..., 0], 240)
    assert 143 < turned[..., 1].max() < 144.01
    assert 143 < turned[..., 2].max() < 144.01


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_gray_images_have_no_saturation_or_hue(name):
    with pytest.raises(InputError, match=f"--{name} needs images with three channels. Received: shape"):
        augment(np.zeros((2, 8, 8, 1), np.uint8), AugmentationSpec(**{name: 0.1}), uniforms(0, 0, 2))
