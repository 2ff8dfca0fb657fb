"""Shared fixtures of the model tests, among them torchvision's ResNet18 with randomized weights as the reference."""

import contextlib

import keras
import pytest
import torch


@pytest.fixture(scope="session")
def half_precision():
    """A context manager: networks built inside it compute in bfloat16."""

    @contextlib.contextmanager
    def block():
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            yield
        finally:
            keras.config.set_dtype_policy(before)

    return block


@pytest.fixture(scope="session")
def torch_resnet18(torchvision):
    """A function of the number of classes and of image channels that returns a torch network in inference mode."""

    def network(num_classes=10, channels=3, head=None):
        torch.manual_seed(0)
        model = torchvision.models.resnet18(weights=None, num_classes=num_classes)
        if channels == 1:
            model.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        if head is not None:
            model.fc = head
        return randomized(model)

    return network


def randomized(network):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_mean" in name or name.endswith("bias"):
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            elif "running_var" in name or value.ndim == 1:
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return network.eval().to("cpu")
