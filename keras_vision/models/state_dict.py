"""torch's state dicts: loaded into a ResNet or an EfficientNet-Lite, and saved so that torch loads them strictly.

Files are opened with `weights_only=True`, which builds tensors and plain containers and runs no other code.
"""

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.files import archives, outside
from keras_vision.files.download import check_hash, data_folders, download, keras_home
from keras_vision.models.channels import fit_channels
from keras_vision.models.efficientnet_lite import package_names
from keras_vision.models.resnet import torchvision_names
from keras_vision.recipe import LITES, InputError, first_line

URL = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
# torch.hub's rule: the first eight digits are in the file's name.
SHA256 = "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
COUNTER = "num_batches_tracked"  # The steps of torch's normalizations; not used here.
MAX_NAMES = 3
MAX_NAME = 200  # Characters.


@dataclass(frozen=True)
class _Family:
    """How one package names the weights of its networks.

    Attributes:
        names: The layer and variable for each name, of a network.
        first: The kernel of the first convolution.
        head: What the names of the head begin with.
        hint: Which network takes which file, for errors.
    """

    names: Callable[[keras.Model], dict[str, tuple[str, str]]]
    first: str
    head: str
    hint: str


TORCHVISION = _Family(
    torchvision_names,
    "conv1.weight",
    "fc.",
    "torchvision's ResNet18 is --architecture resnet18 --stem imagenet --width 64",
)
LITE = _Family(
    package_names,
    "_conv_stem.weight",
    "_fc.",
    "efficientnet_lite0 takes a state dict of efficientnet-lite-pytorch's efficientnet-lite0, and so on",
)


@dataclass(frozen=True)
class _Place:
    """A variable, and which axis of torch's tensor each of its axes is."""

    variable: Any
    axes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    @property
    def torch_shape(self) -> tuple[int, ...]:
        return tuple(self.shape[self.axes.index(axis)] for axis in range(len(self.axes)))


def imagenet_file() -> Path:
    """torchvision's ResNet18 weights, `IMAGENET1K_V1`, from disk or downloaded, checked against their SHA-256.

    Searched in the folder `KERAS_VISION_DATA`, then in Keras's cache, else downloaded into the cache.

    Raises:
        InputError: If the file has another SHA-256, or the download fails.
    """
    folders = data_folders(keras_home("models"))
    name = URL.rpartition("/")[2]
    for folder in folders:
        if os.path.exists(folder / name):
            check_hash(folder / name, "sha256", SHA256, "torchvision's ResNet18", flag="--weights")
            return folder / name
    return download(URL, name, folders, "sha256", SHA256, flag="--weights", trial="none")


def load_state_dict(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Loads a torch file's weights into a network, and prints what was skipped.

    The last layer is skipped if the file has none or one of another shape. The first convolution is converted if one
    network takes gray images and the other colour.

    Args:
        model: From `resnet18`, from `cifar_resnet` for a torch network of such blocks, or from `efficientnet_lite0`
            and its siblings for one of efficientnet-lite-pytorch; changed in place.
        path: A `.pth` file: a state dict, or a checkpoint with one under "state_dict"; names may begin with `module.`.

    Raises:
        InputError: If the file is neither, or a weight is missing, unexpected or of another shape.
    """
    family = _family(model)
    state = {name: value for name, value in _read(path).items() if not name.endswith(COUNTER)}
    places = _places(model, family)
    values = {
        name: _fitted(state[name], place, first=name == family.first) for name, place in places.items() if name in state
    }
    misshapen = [name for name, value in values.items() if value.shape != places[name].shape]
    missing, unexpected = places.keys() - state.keys(), state.keys() - places.keys()
    another_head = any(name.startswith(family.head) for name in (*misshapen, *missing, *unexpected))
    skipped = {name for name in (*places, *state) if another_head and name.startswith(family.head)}
    _refuse(
        path,
        {
            "missing": sorted(missing - skipped),
            "unexpected": sorted(unexpected - skipped),
            "of another shape": [
                f"{name}, {tuple(state[name].shape)} where {places[name].torch_shape} is needed"
                for name in misshapen
                if name not in skipped
            ],
        },
        family.hint,
    )
    for name, value in values.items():
        if name not in skipped:
            places[name].variable.assign(value)
    print(f"Weights loaded from {path}{', except the last layer, which has another shape' if skipped else ''}.")


def save_state_dict(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Saves a network's weights so that the same network in torch loads them with `strict=True`.

    For a `resnet18` with the ImageNet stem and width 64 that is `torchvision.models.resnet18(num_classes=N)`, for an
    `efficientnet_lite0` it is efficientnet-lite-pytorch's `EfficientNet.from_name("efficientnet-lite0",
    num_classes=N)`. A head with a hidden layer is `torch.nn.Sequential(Linear, ReLU, Dropout, Linear)` as `fc` or
    `_fc`, or without the Dropout if the network has none.

    Args:
        model: From `resnet18`, `cifar_resnet`, or `efficientnet_lite0` and its siblings.
        path: The `.pth` file to write.
    """
    torch = _torch()
    state = {}
    for name, place in _places(model, _family(model)).items():
        value: Any = keras.ops.convert_to_numpy(place.variable)
        state[name] = torch.from_numpy(np.array(value.transpose(np.argsort(place.axes)), order="C"))
        if name.endswith("running_var"):
            state[name.replace("running_var", COUNTER)] = torch.tensor(0)
    torch.save(state, path)


def _family(model):
    return LITE if model.name in LITES else TORCHVISION


def _places(model, family):
    """The place of each of torch's names."""
    places = {}
    for name, (layer_name, variable_name) in family.names(model).items():
        layer = model.get_layer(layer_name)
        variable = getattr(layer, variable_name)
        # torch's kernels are (out, in, height, width), depthwise ones (in, 1, height, width), dense ones (out, in).
        axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[len(variable.shape)]
        places[name] = _Place(variable, (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else axes)
    return places


def _fitted(tensor, place, *, first):
    """A torch tensor as a NumPy array in Keras's axis order; a first kernel is converted between gray and colour."""
    value = tensor.detach().float().numpy()
    if value.ndim != len(place.axes):
        return value
    value = value.transpose(place.axes)
    if first and value.shape != place.shape:
        fitted = fit_channels(value, place.shape)
        return value if fitted is None else fitted
    return value


def _refuse(path, complaints, hint):
    """Raises one error that lists all weights that do not fit."""
    lists = []
    for kind, names in complaints.items():
        if names:
            more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
            lists.append(f"{kind}: {', '.join(names[:MAX_NAMES])}{more}")
    if lists:
        raise InputError(f"The weights of {path} do not fit this network ({'; '.join(lists)}); {hint}.")


def _torch():
    """The package, imported on use: that takes seconds, and other backends run without it."""
    try:
        import torch
    except ImportError as error:
        raise InputError("A torch state dict needs the package torch: pip install torch.") from error
    return torch


def _read(path) -> dict[str, Any]:
    """The state dict in a file: `{name: tensor}`.

    Raises:
        InputError: If the file has none, or would run code.
    """
    torch = _torch()
    wanted = f"--weights takes a torch state dict, {{name: tensor}}. Received: {path}, "
    try:
        outside.require_regular(path)
        if zipfile.is_zipfile(path):  # Files of torch before 1.6 are none.
            with archives.opened(path):
                pass
        with warnings.catch_warnings(action="ignore"):  # torch warns about files that it then refuses.
            content = torch.load(Path(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{wanted}which has more than tensors and could run code; it was not opened.") from error
    except InputError:
        raise
    except Exception as error:  # A damaged file can raise anything in torch's readers.
        raise InputError(f"{wanted}which cannot be read: {first_line(error)}") from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not content or not all(map(torch.is_tensor, content.values())):
        raise InputError(f"{wanted}which has other content.")
    if not all(isinstance(name, str) and name.isprintable() and len(name) <= MAX_NAME for name in content):
        raise InputError(f"{wanted}which has names that are no layers'.")
    if not all(map(_is_plain, content.values())):
        raise InputError(f"{wanted}which has tensors that are not plain arrays of numbers.")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _is_plain(tensor):
    """Whether a tensor is dense, and its values are in the file: views can repeat one value without end."""
    torch = _torch()
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
