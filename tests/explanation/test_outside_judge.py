"""Heatmaps compared with those of the torch package `grad-cam`: `pip install --no-deps grad-cam ttach`."""

import importlib.util
import warnings

import keras
import numpy as np
import pytest
import torch
from keras import layers

from keras_vision import explanation
from keras_vision.explanation.heatmap import heatmaps

pytestmark = pytest.mark.backend
NAMES = {"grad-cam": "GradCAM", "grad-cam++": "GradCAMPlusPlus", "hires-cam": "HiResCAM", "layer-cam": "LayerCAM"}


@pytest.fixture(scope="module")
def judge(torchvision):
    del torchvision  # `pytorch_grad_cam` imports it.
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        pytest.skip("needs the package grad-cam")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("pytorch_grad_cam")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    parts = [
        layers.Conv2D(6, 3, padding="same", activation="relu", name="early"),
        layers.MaxPooling2D(2),
        layers.Conv2D(8, 3, padding="same", activation="relu", name="late"),
        layers.Flatten(),
        layers.Dense(12, activation="relu"),
        layers.Dense(4, activation="softmax"),
    ]
    model = keras.Sequential([keras.Input((12, 12, 3)), layers.Rescaling(1 / 255), *parts])
    # Weights so large that Grad-CAM++'s epsilon does not dominate.
    model.set_weights([2 * weight for weight in model.get_weights()])
    return model


def torch_twin(model):
    """The same network, with its weights, in torch's layout and without the softmax."""
    convolutions = [torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 8, 3, padding=1)]
    dense = [torch.nn.Linear(6 * 6 * 8, 12), torch.nn.Linear(12, 4)]
    weights = iter(model.get_weights())
    with torch.no_grad():
        for part in (*convolutions, *dense):
            kernel, bias = next(weights), next(weights)
            if part is dense[0]:  # Keras flattens channels last, torch channels first.
                kernel = kernel.reshape(6, 6, 8, 12).transpose(2, 0, 1, 3).reshape(-1, 12)
            kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            part.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            part.bias.copy_(torch.from_numpy(bias))
    relus = [torch.nn.ReLU() for _ in range(3)]
    twin = torch.nn.Sequential(
        convolutions[0], relus[0], torch.nn.MaxPool2d(2), convolutions[1], relus[1], torch.nn.Flatten()
    )
    return torch.nn.Sequential(*twin, dense[0], relus[2], dense[1]).eval().to("cpu"), relus[0], relus[1]


@pytest.mark.parametrize("method", list(NAMES))
@pytest.mark.parametrize("layer", ["early", "late"])
def test_heatmaps_equal_those_of_the_torch_package(method, layer, judge, model):
    images = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3), dtype=np.uint8)
    targets = [0, 1, 2, 3]
    twin, early, late = torch_twin(model)
    inputs = torch.from_numpy(np.float32(images / 255).transpose(0, 3, 1, 2).copy())
    outputs = [judge.utils.model_targets.ClassifierOutputTarget(target) for target in targets]
    with getattr(judge, NAMES[method])(model=twin, target_layers=[{"early": early, "late": late}[layer]]) as cam:
        cam(input_tensor=inputs, targets=outputs)
        maps, gradients = (
            [part.detach().cpu().numpy() for part in parts]
            for parts in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)
        )
        # At the feature maps' size, because the package rescales each map before and after it resizes it.
        expected = cam.get_cam_image(inputs, None, outputs, maps[0], gradients[0], False)
    expected = heatmaps(np.maximum(expected, 0), (12, 12))
    assert expected.any(axis=(1, 2)).sum() >= 3
    actual = explanation.METHODS[method](model, images, targets, layers=layer)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
