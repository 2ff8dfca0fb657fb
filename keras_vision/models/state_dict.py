"""torchvision's state dicts, both ways: read into a network of `resnet.py`, and written for torch to load strictly.

Files are opened with `weights_only=True`, which builds tensors and plain containers and calls nothing else.
"""

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_vision.files.download import check_hash, data_folders, download, keras_home
from keras_vision.models.channels import fit_channels
from keras_vision.models.resnet import torchvision_names
from keras_vision.recipe import InputError, first_line

URL = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
# The first eight digits are in the file's name, as torch.hub has it.
SHA256 = "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"
FIRST, HEAD = "conv1.weight", "fc."
COUNTER = "num_batches_tracked"  # torch's normalizations count their steps; nothing here depends on it.
NAMED_AT_MOST = 3


def imagenet_file():
    """torchvision's ResNet18 weights, `IMAGENET1K_V1`, from disk or from their home, checked against their SHA-256.

    Looked for in the folder `KERAS_VISION_DATA`, then in Keras's cache, then downloaded into the cache.

    Raises:
        InputError: If the file is not what it should be, or the download fails.
    """
    folders = data_folders(keras_home("models"))
    name = URL.rpartition("/")[2]
    for folder in folders:
        if os.path.exists(folder / name):
            check_hash(folder / name, "sha256", SHA256, "torchvision's ResNet18", flag="--weights")
            return folder / name
    return download(URL, name, folders, "sha256", SHA256, flag="--weights", trial="none")


def load_state_dict(model, path):
    """Gives a network the weights of a torch file, and says what was left out.

    The last layer is left out where the file has none or one of another shape. The first convolution is fitted where
    one network takes gray pictures and the other colour.

    Args:
        model: From `resnet18`, or `cifar_resnet` for a torch network of such blocks; changed in place.
        path: A `.pth` file: a state dict, or a checkpoint with one under "state_dict"; names may begin with `module.`.

    Raises:
        InputError: If the file is none of these, or a weight is missing, unexpected or of another shape.
    """
    state = {name: value for name, value in _read(path).items() if not name.endswith(COUNTER)}
    places = _places(model)
    values = {name: _fitted(name, state[name], place) for name, place in places.items() if name in state}
    misshapen = [name for name, value in values.items() if value.shape != tuple(places[name].shape)]
    missing, unexpected = places.keys() - state.keys(), state.keys() - places.keys()
    wrong = [*misshapen, *missing, *unexpected]
    left_out = sorted({name for name in (*places, *state) if name.startswith(HEAD)}) if _any_head(wrong) else []
    _refuse(
        path,
        {
            "missing": sorted(missing - set(left_out)),
            "unexpected": sorted(unexpected - set(left_out)),
            "of another shape": [
                f"{name}, {tuple(state[name].shape)} where {_torch_shape(places[name].shape)} is needed"
                for name in misshapen
                if name not in left_out
            ],
        },
    )
    for name, value in values.items():
        if name not in left_out:
            places[name].assign(value)
    print(f"Weights taken from {path}{', all but its last layer, of another shape' if left_out else ''}.")


def save_state_dict(model, path):
    """Writes a network's weights as torch's network of the same shape loads them, with `strict=True`.

    `torchvision.models.resnet18(num_classes=N)` is that network for a `resnet18` with the ImageNet stem and width 64.
    A head with a hidden layer is `torch.nn.Sequential(Linear, ReLU, Dropout, Linear)` in the place of `fc`, without the
    Dropout where there is none.

    Args:
        model: From `resnet18` or `cifar_resnet`.
        path: The `.pth` file to write.
    """
    torch = _torch()
    state = {}
    for name, variable in _places(model).items():
        value: Any = keras.ops.convert_to_numpy(variable)
        state[name] = torch.from_numpy(np.array(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T))
        if name.endswith("running_var"):
            state[name.replace("running_var", COUNTER)] = torch.tensor(0)
    torch.save(state, path)


def _places(model):
    """The variable that each of torchvision's names stands for."""
    return {
        name: getattr(model.get_layer(layer), variable) for name, (layer, variable) in torchvision_names(model).items()
    }


def _any_head(names):
    return any(name.startswith(HEAD) for name in names)


def _fitted(name, tensor, place):
    """A torch tensor as the array that belongs here, if its shape allows it."""
    value = tensor.detach().float().numpy()
    value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    if name == FIRST and value.ndim == 4 and value.shape != tuple(place.shape):
        fitted = fit_channels(value, place.shape)
        return value if fitted is None else fitted
    return value


def _torch_shape(shape):
    return tuple(shape[index] for index in (3, 2, 0, 1)) if len(shape) == 4 else tuple(shape)[::-1]


def _refuse(path, complaints):
    """One sentence with all that does not fit."""
    said = []
    for kind, names in complaints.items():
        if names:
            more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
            said.append(f"{kind}: {', '.join(names[:NAMED_AT_MOST])}{more}")
    if said:
        raise InputError(
            f"The weights of {path} do not fit this network ({'; '.join(said)}); torchvision's ResNet18 is "
            "--architecture resnet18 --stem imagenet --width 64."
        )


def _torch():
    """The package, imported late: it takes seconds, and other backends run without it."""
    try:
        import torch
    except ImportError as error:
        raise InputError("A torch state dict needs the package torch: pip install torch.") from error
    return torch


def _read(path) -> dict[str, Any]:
    """The state dict in a file: `{name: tensor}`.

    Raises:
        InputError: If it holds none, or asks for code to be run.
    """
    torch = _torch()
    wanted = f"--weights takes a torch state dict, {{name: tensor}}. Received: {path}, "
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's remarks on files that it then refuses.
            content = torch.load(Path(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{wanted}which asks for more than tensors; it was not opened.") from error
    except Exception as error:  # Whatever a damaged file makes of torch's readers.
        raise InputError(f"{wanted}which cannot be read: {first_line(error)}") from error
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not content or not all(map(torch.is_tensor, content.values())):
        raise InputError(f"{wanted}which holds something else.")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
