"""torch twins of our Keras networks, with the same weights, for packages that explain only torch models.

They take images in `[0, 255]`, shape `(N, C, H, W)`. Dropout, which is inactive in inference, is left out.
"""

import numpy as np
import torch
import torch_cifar
from torch import nn


class Rescaling(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.scale, self.offset = layer.scale, layer.offset

    def forward(self, x):
        return x * self.scale + self.offset


class Block(nn.Module):
    """A residual block of `keras_vision.models.small_resnet`."""

    def __init__(self, model, name, padding):
        super().__init__()
        self.shortcut = convolution(model, f"{name}_shortcut", nn.Identity())
        self.way = nn.Sequential(
            *convolution(model, f"{name}_a", padding), nn.ReLU(), *convolution(model, f"{name}_b", nn.ZeroPad2d(1))
        )
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.way(x) + self.shortcut(x))


def torch_twin(model):
    """The twin of a network, and its module that outputs the feature maps that ours weights by default.

    Args:
        model: A `plain_cnn`, a `small_resnet` for images of 28 x 28, or a `cifar_resnet`.
    """
    return {"plain_cnn": _plain_cnn, "small_resnet": _small_resnet, "cifar_resnet": _cifar_resnet}[model.name](model)


def _plain_cnn(model):
    parts = [Rescaling(model.get_layer("rescaling"))]
    for block in range(1, 5):
        parts += [*convolution(model, f"block{block}", nn.ZeroPad2d(1)), nn.ReLU(), nn.MaxPool2d(2)]
    feature_maps = parts[-2]
    # The last maps have one pixel, so the order of flattening does not matter.
    parts += [nn.Flatten(), dense(model, "dense256"), nn.ReLU(), dense(model, "dense128"), nn.ReLU()]
    return nn.Sequential(*parts, dense(model, "logits")).eval(), feature_maps


def _small_resnet(model):
    # With stride 2 Keras pads at the right and bottom, from 28 to 14 to 7 pixels; 7 pixels are padded on each side.
    paddings = [nn.ZeroPad2d((0, 1, 0, 1)), nn.ZeroPad2d((0, 1, 0, 1)), nn.ZeroPad2d(1)]
    blocks = [Block(model, f"block{number}", padding) for number, padding in enumerate(paddings, 1)]
    parts = [Rescaling(model.get_layer("rescaling")), *convolution(model, "stem", nn.ZeroPad2d(1)), nn.ReLU(), *blocks]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), dense(model, "logits")]
    return nn.Sequential(*parts).eval(), blocks[-1]


def _cifar_resnet(model):
    """The network of the plain torch script, whose weights are in the order of these names."""
    twin = torch_cifar.network(model.get_layer("conv1").filters, model.output_shape[-1])
    names = ["conv1", "bn1"]
    for block in (layer.name.removesuffix("add") for layer in model.layers if layer.name.endswith("_add")):
        parts = [f"{block}{part}" for part in ("conv1", "bn1", "conv2", "bn2", "downsample_0", "downsample_1")]
        names += [name for name in parts if any(layer.name == name for layer in model.layers)]
    weighted = [module for module in twin.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    for module, name in zip(weighted, [*names, "logits"], strict=True):
        weights = model.get_layer(name).get_weights()
        weights[0] = weights[0].transpose(*{1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[weights[0].ndim])
        _copy(module, dict(zip(("weight", "bias", "running_mean", "running_var"), weights, strict=False)))
    parts = [Rescaling(model.get_layer("rescaling")), *twin]
    return nn.Sequential(*parts).eval(), [module for module in twin if isinstance(module, torch_cifar.Block)][-1]


def convolution(model, name, padding):
    """Padding, convolution and normalization."""
    layer, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_norm")
    kernel, *bias = layer.get_weights()
    inside = 0
    if isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
        padding, inside = nn.Identity(), padding.padding[0]
    twin = nn.Conv2d(*kernel.shape[2:], kernel.shape[:2], layer.strides, inside, bias=bool(bias))
    normalized = nn.BatchNorm2d(kernel.shape[-1], eps=norm.epsilon)
    _copy(twin, {"weight": kernel.transpose(3, 2, 0, 1), **dict(zip(("bias",), bias, strict=False))})
    names = ("weight", "bias", "running_mean", "running_var")
    _copy(normalized, dict(zip(names, norm.get_weights(), strict=True)))
    return nn.Sequential(padding, twin, normalized)


def dense(model, name):
    kernel, bias = model.get_layer(name).get_weights()
    twin = nn.Linear(*kernel.shape)
    _copy(twin, {"weight": kernel.T, "bias": bias})
    return twin


def _copy(module, arrays):
    with torch.no_grad():
        for name, array in arrays.items():
            getattr(module, name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
