"""The methods by hand, compared with NumPy, and on networks whose explanation is known."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import explanation, quantization
from keras_vision.explanation.grad_cam import _combine as combine_grad_cam
from keras_vision.explanation.grad_cam_plus_plus import _combine as combine_plus_plus
from keras_vision.explanation.heatmap import heatmaps
from keras_vision.explanation.hires_cam import _combine as combine_hires_cam
from keras_vision.explanation.layer_cam import _combine as combine_layer_cam
from keras_vision.explanation.network import network_of

pytestmark = pytest.mark.backend
BY_GRADIENT = ["grad-cam", "grad-cam++", "hires-cam", "layer-cam"]


def relu(values):
    return np.maximum(values, 0)


def tiny_forward(model, images):
    """Feature maps of the two layers, logits, and gradients of each logit with respect to the maps, in NumPy.

    Returns:
        `(first, second, logits, by_first, by_second)`; the gradients have shape `(K, N, height, width, C)`.
    """
    first_kernel, first_bias, second_kernel, second_bias, hidden, hidden_bias, head, head_bias = map(
        np.float64, model.get_weights()
    )
    before = images / 255 @ first_kernel[0, 0] + first_bias
    first = relu(before)
    n, h, w, c = first.shape
    pooled = first.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    inner = pooled @ second_kernel[0, 0] + second_bias
    second = relu(inner)
    units = second.mean(axis=(1, 2)) @ hidden + hidden_bias
    logits = relu(units) @ head + head_bias
    by_mean = np.stack([((units > 0) * head[:, k]) @ hidden.T for k in range(3)])
    places = second.shape[1] * second.shape[2]
    by_second = np.broadcast_to(by_mean[:, :, None, None, :] / places, (3, *second.shape))
    by_pooled = (by_second * (inner > 0)) @ second_kernel[0, 0].T
    by_first = by_pooled.repeat(2, axis=2).repeat(2, axis=3) / 4
    return first, second, logits, by_first, by_second


def expected_map(method, maps, gradients):
    """The papers' formulas in loops over images and channels."""
    combined = np.zeros(maps.shape[:-1])
    for n in range(len(maps)):
        for c in range(maps.shape[-1]):
            a, g = maps[n, ..., c], gradients[n, ..., c]
            alpha = np.where(g > 0, g**2 / (2 * g**2 + a.sum() * g**3 + 1e-6), 0)
            weight = {
                "grad-cam": g.mean(),
                "grad-cam++": (alpha * relu(g)).sum(),
                "hires-cam": g,
                "layer-cam": relu(g),
            }[method]
            combined[n] += weight * a
    return combined


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_heatmaps_equal_numpys_on_every_backend(method, tiny_model, tiny_images):
    first, second, _, by_first, by_second = tiny_forward(tiny_model, tiny_images)
    targets = [0, 2, 1, 1, 0]
    actual = explanation.METHODS[method](
        tiny_model, tiny_images, targets, layers=["first_relu", "second"], batch_size=2
    )
    rows = np.arange(5)
    for heat, maps, gradients in zip(actual, (first, second), (by_first, by_second), strict=True):
        expected = heatmaps(expected_map(method, maps, gradients[targets, rows]), (8, 6))
        assert heat.dtype == np.float32
        assert expected.any(axis=(1, 2)).sum() >= 3
        np.testing.assert_allclose(heat, expected, atol=1e-4)


def test_score_cam_equals_numpys_on_every_backend(tiny_model, tiny_images):
    _, second, logits, *_ = tiny_forward(tiny_model, tiny_images)
    expected = []
    for image, maps, target in zip(tiny_images, second, logits.argmax(axis=1), strict=True):
        total = 0
        for c in range(maps.shape[-1]):
            spread = np.ptp(maps[..., c])
            if spread:
                mask = heatmaps((maps[..., c] - maps[..., c].min())[np.newaxis], (8, 6))[0]
                mask = (mask - mask.min()) / np.ptp(mask)
                scores = tiny_forward(tiny_model, (image * mask[..., np.newaxis])[np.newaxis])[2][0]
                total = total + maps[..., c] * np.exp(scores[target]) / np.exp(scores).sum()
        expected.append(total)
    actual = explanation.score_cam(tiny_model, tiny_images, batch_size=2)
    np.testing.assert_allclose(actual, heatmaps(np.array(expected), (8, 6)), atol=1e-4)


def test_attributions_add_up_to_the_difference_of_the_logits(tiny_model, tiny_images):
    baseline = np.full((8, 6, 3), 30.0)
    logits = tiny_forward(tiny_model, tiny_images)[2]
    start = tiny_forward(tiny_model, baseline[np.newaxis])[2]
    for target_classes, target in ((None, logits.argmax(axis=1)), (1, [1] * 5)):
        actual = explanation.attributions(tiny_model, tiny_images, target_classes, baseline=baseline, steps=256)
        difference = (logits - start)[np.arange(5), target]
        np.testing.assert_allclose(actual.sum(axis=(1, 2, 3)), difference, atol=0.01 * np.abs(logits).max())


def test_integrated_gradients_of_a_linear_model_are_weights_times_pixels():
    model = keras.Sequential([keras.Input((2, 2, 1)), layers.Flatten(), layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[0, 3], [0, -1], [0, 1], [0, 2]])])
    actual = explanation.integrated_gradients(model, np.full((1, 2, 2, 1), 50, np.uint8), 1)
    np.testing.assert_allclose(actual[0], [[1, 0], [1 / 3, 2 / 3]], atol=1e-6)


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (combine_grad_cam, [2, 4 - 3]),  # Means of the gradients: 2 and -3.
        (combine_hires_cam, [3, 2 - 4]),
        (combine_layer_cam, [3, 2]),
        # The first channel sums to 3, so its alphas are 9 / (18 + 81) and 1 / (2 + 3); the second has none.
        (combine_plus_plus, [3 * 9 / 99 + 1 / 5, 2 * (3 * 9 / 99 + 1 / 5)]),
    ],
)
def test_two_channels_by_hand(combine, expected):
    maps = np.array([[[1.0, 0.0], [2.0, 1.0]]])  # One image, two positions, two channels.
    gradients = np.array([[[3.0, -2.0], [1.0, -4.0]]])
    np.testing.assert_allclose(combine(maps, gradients), [expected], rtol=1e-5)


def test_grad_cam_equals_cam_before_pooling_and_one_dense_layer():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            layers.Conv2D(6, 3, activation="relu", name="maps"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
        ]
    )
    images = np.random.default_rng(0).uniform(0, 255, (3, 9, 9, 3)).astype(np.float32)
    kernel, bias, head, _ = model.get_weights()
    maps = np.zeros((3, 7, 7, 6))
    for row in range(3):
        for column in range(3):
            maps += images[:, row : row + 7, column : column + 7] @ kernel[row, column]
    cam = relu(maps + bias) @ head
    for target in range(4):
        expected = heatmaps(cam[..., target], (9, 9))
        np.testing.assert_allclose(explanation.grad_cam(model, images, target), expected, atol=1e-4)
        np.testing.assert_allclose(explanation.hires_cam(model, images, target), expected, atol=1e-4)


def half_model(rank):
    """Class 1 is brightness in one corner (in 2D: in the right half), class 0 is brightness elsewhere."""
    convolution = {2: layers.Conv2D, 3: layers.Conv3D}[rank]
    images = keras.Input((8,) * rank + (1,))
    x = layers.Rescaling(1 / 255)(images)
    x = convolution(1, 1, kernel_initializer="ones", name="light")(x)
    x = layers.Flatten()(x)
    model = keras.Model(images, layers.Dense(2)(x))
    counted = np.zeros((8,) * rank)
    counted[(slice(None), slice(4, 8)) if rank == 2 else (slice(4, 8),) * 3] = 1
    model.set_weights([*model.get_weights()[:2], np.stack([1 - counted, counted], -1).reshape(-1, 2), np.zeros(2)])
    return model, counted.astype(bool)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("method", ["hires-cam", "layer-cam", "integrated-gradients"])
def test_the_heatmap_is_where_the_class_is(method, rank):
    model, counted = half_model(rank)
    images = np.full((2, *counted.shape, 1), 180, np.uint8)
    actual = explanation.METHODS[method](model, images, [1, 0])
    np.testing.assert_allclose(actual[0], counted, atol=1e-6)
    np.testing.assert_allclose(actual[1], ~counted, atol=1e-6)


@pytest.mark.parametrize("method", list(explanation.METHODS))
def test_volumes_are_explained_by_the_bright_octant(method):
    keras.utils.set_random_seed(0)
    pooled = [layers.AveragePooling3D(2), layers.Conv3D(2, 1, name="maps"), layers.GlobalMaxPooling3D()]
    model = keras.Sequential([keras.Input((8, 8, 8, 1)), layers.Rescaling(1 / 255), *pooled, layers.Dense(2)])
    model.set_weights([np.ones((1, 1, 1, 1, 2)), np.zeros(2), np.array([[-1, 1], [-1, 1]]), np.zeros(2)])
    volumes = np.zeros((1, 8, 8, 8, 1), np.uint8)
    volumes[0, 4:, :4, 4:] = np.random.default_rng(0).integers(100, 256, (4, 4, 4, 1))
    heat = explanation.METHODS[method](model, volumes, 1)[0]
    assert heat.shape == (8, 8, 8)
    assert heat[4:, :4, 4:].sum() > 0.6 * heat.sum() > 0
    assert np.unravel_index(heat.argmax(), heat.shape) >= (4, 0, 4)


def test_changed_weights_change_the_heatmaps(tiny_model, tiny_images):
    before = explanation.grad_cam(tiny_model, tiny_images, 0)
    old = tiny_model.get_weights()
    try:
        tiny_model.set_weights([*old[:-2], -old[-2], old[-1]])
        changed = explanation.grad_cam(tiny_model, tiny_images, 0)
        _, second, _, _, by_second = tiny_forward(tiny_model, tiny_images)
        expected = heatmaps(expected_map("grad-cam", second, by_second[0]), (8, 6))
    finally:
        tiny_model.set_weights(old)
    np.testing.assert_allclose(changed, expected, atol=1e-4)
    assert np.abs(changed - before).max() > 0.5
    np.testing.assert_array_equal(explanation.grad_cam(tiny_model, tiny_images, 0), before)


@pytest.mark.parametrize("method", list(explanation.METHODS))
def test_a_class_without_evidence_has_an_empty_heatmap(method):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(2, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    model.set_weights([-np.ones((1, 1, 1, 2)), np.zeros(2), np.ones((2, 2)), np.zeros(2)])
    heat = explanation.METHODS[method](model, np.full((2, 4, 4, 1), 9, np.uint8))
    assert heat.shape == (2, 4, 4)
    assert not heat.any()


@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "softmax layer", "activation layer", "float32 activation"])
def test_the_score_is_the_logit_before_the_last_activation(ending, tiny_model, tiny_images):
    images = keras.Input((8, 6, 3))
    body = tiny_model.layers[1:-1]
    x = images
    for layer in body:
        x = layer.__class__.from_config(layer.get_config())(x)
    logits = layers.Dense(3, activation=ending if ending in ("softmax", "sigmoid") else None)(x)
    last = {
        "softmax layer": layers.Softmax,
        "activation layer": lambda: layers.Activation("sigmoid"),
        "float32 activation": lambda: layers.Activation("softmax", dtype="float32"),
    }.get(ending)
    model = keras.Model(images, last()(logits) if last else logits)
    model.set_weights(tiny_model.get_weights())
    expected = explanation.hires_cam(tiny_model, tiny_images)
    np.testing.assert_allclose(explanation.hires_cam(model, tiny_images), expected, atol=1e-5)
    scores = model.predict_on_batch(tiny_images.astype("float32"))
    assert scores.min() >= 0
    if ending != "sigmoid":
        assert scores.max() <= 1


def test_a_single_sigmoid_is_two_classes():
    model = keras.Sequential(
        [keras.Input((2, 2, 1)), layers.Conv2D(1, 1), layers.Flatten(), layers.Dense(1, activation="sigmoid")]
    )
    model.set_weights([np.ones((1, 1, 1, 1)), np.zeros(1), np.array([[1.0], [0], [-1], [0]]), np.zeros(1)])
    images = np.full((2, 2, 2, 1), 3, np.uint8)
    np.testing.assert_allclose(explanation.hires_cam(model, images, [1, 0]), [[[1, 0], [0, 0]], [[0, 0], [1, 0]]])
    assert explanation.score_cam(model, images).shape == (2, 2, 2)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_half_precision_models_have_the_heatmaps_of_their_float32_twins(policy, tiny_model, tiny_images):
    config = tiny_model.get_config()
    for layer in config["layers"][1:]:
        layer["config"]["dtype"] = policy
    half, twin = keras.Model.from_config(config), keras.models.clone_model(tiny_model)
    *body, head, head_bias = tiny_model.get_weights()
    # Logits so small that in float16 most of their gradients are zero.
    half.set_weights([*body, head / 1000, head_bias / 1000])
    twin.set_weights(half.get_weights())
    targets = [0, 2, 1, 1, 0]
    policies = [layer.dtype_policy.name for layer in half.layers]
    for method in ("hires-cam", "layer-cam", "integrated-gradients"):
        actual = explanation.METHODS[method](half, tiny_images, targets)
        assert actual.dtype == np.float32
        assert actual.any()
        np.testing.assert_allclose(actual, explanation.METHODS[method](twin, tiny_images, targets), atol=1e-4)
    assert [layer.dtype_policy.name for layer in half.layers] == policies
    assert np.isfinite(explanation.score_cam(half, tiny_images)).all()


def test_the_cache_does_not_keep_a_model_alive():
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 1), layers.Flatten(), layers.Dense(2)])
    explanation.grad_cam(model, np.zeros((1, 4, 4, 1)))
    assert network_of(model) is network_of(model)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_the_batch_size_does_not_change_heatmaps(tiny_model, tiny_images):
    expected = explanation.grad_cam(tiny_model, tiny_images, batch_size=32)
    np.testing.assert_allclose(explanation.grad_cam(tiny_model, tiny_images, batch_size=2), expected, atol=1e-6)
    np.testing.assert_allclose(explanation.grad_cam(tiny_model, tiny_images / 1.0, batch_size=2), expected, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="The other backends compile their gradients.")
def test_torch_keeps_no_feature_maps_before_the_explained_ones(tiny_model, tiny_images):
    import torch

    kept = []

    def keep(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        explanation.grad_cam(tiny_model, tiny_images, layers="second")
    assert kept
    assert not [shape for shape in kept if {8, 6} <= set(shape[1:])]


def test_fake_quantized_models_are_explained(tiny_model, tiny_images):
    quantized = quantization.with_fake_quantization(tiny_model)
    quantization.set_ranges(quantized, tiny_model, tiny_images)
    actual = explanation.layer_cam(quantized, tiny_images, 0)
    assert network_of(quantized).steps((8, 6, 3), None)[0].path == "second_relu_range"
    expected = explanation.layer_cam(tiny_model, tiny_images, 0)
    # Where rounding turns off the only unit of a heatmap, that heatmap is empty; most are not affected.
    assert np.median(np.abs(actual - expected).max(axis=(1, 2))) < 0.1


def test_score_cam_accepts_anything_with_feature_maps_and_probabilities():
    class Halves:
        """Channel 0 is the left half, channel 1 the right; class 1 is brightness in the right half."""

        def feature_maps(self, images, layer):
            assert layer == "halves"
            maps = np.zeros((len(images), 4, 4, 2))
            maps[:, :, :2, 0], maps[:, :, 2:, 1] = 1, 1
            return maps

        def probabilities(self, images):
            right = images[:, :, 2:].mean(axis=(1, 2, 3)) / 255
            return np.stack([1 - right, right], axis=1)

    heat = explanation.score_cam(Halves(), np.full((3, 4, 4, 1), 255, np.uint8), 1, layers="halves")
    np.testing.assert_allclose(heat, np.broadcast_to([0, 0, 1, 1], (3, 4, 4)), atol=1e-6)
