"""Networks: one architecture per file, functional, one flat graph, logits as output.

Every network takes images in `[0, 255]` and scales them itself, so its `.keras` file is self-contained.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_vision.files.packaged_weights import packaged_weights
from keras_vision.models.application import application
from keras_vision.models.basic_cnn import basic_cnn
from keras_vision.models.efficientnet_lite import efficientnet_lite0, efficientnet_lite1, efficientnet_lite2
from keras_vision.models.ends import divide_logits, with_scores
from keras_vision.models.ensemble import averaged
from keras_vision.models.freezing import backbone_and_head, freeze, head_layers, keep_statistics
from keras_vision.models.init_from import init_from
from keras_vision.models.plain_cnn import plain_cnn
from keras_vision.models.plain_cnn_3d import plain_cnn_3d
from keras_vision.models.resnet import cifar_resnet, resnet18, torchvision_names
from keras_vision.models.small_resnet import small_resnet
from keras_vision.models.state_dict import imagenet_file, load_state_dict, save_state_dict
from keras_vision.models.whitened_cnn import whiten, whitened_cnn
from keras_vision.recipe import LITES, InputError, ModelSpec

ARCHITECTURES: dict[str, Callable[[ModelSpec, tuple[int, ...], int], keras.Model]] = {
    "plain_cnn": plain_cnn,
    "plain_cnn_3d": plain_cnn_3d,
    "small_resnet": small_resnet,
    "cifar_resnet": cifar_resnet,
    "resnet18": resnet18,
    "whitened_cnn": whitened_cnn,
    "basic_cnn": basic_cnn,
    "application": application,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite1": efficientnet_lite1,
    "efficientnet_lite2": efficientnet_lite2,
}


def build(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int, images: Any = None) -> keras.Model:
    """Builds the network that a `recipe.ModelSpec` names, loads its initial weights and freezes its layers.

    Args:
        spec: A `recipe.ModelSpec`.
        image_shape: Shape of one image, `(H, W, C)`, or of one volume, `(D, H, W, C)`.
        num_classes: Number of logits.
        images: Training images, uint8 array or rows on disk, `(N, *image_shape)`, for a network that is initialized
            from their statistics; None initializes it at random.

    Returns:
        A functional `keras.Model` from images in `[0, 255]`, shape `(N, *image_shape)`, to logits, `(N, num_classes)`.

    Raises:
        InputError: If the network does not accept images of that shape, its weights are not available or do not fit,
            no layer has the name to unfreeze from, or a layer without weights from `--init-from` would be frozen.
    """
    model = ARCHITECTURES[spec.architecture](spec, image_shape, num_classes)
    if spec.architecture == "whitened_cnn" and images is not None:
        whiten(model, images)
    if spec.weights != "none" and spec.architecture != "application":  # It loads its own before the cut.
        load_state_dict(model, spec.weights_path or _imagenet_file(spec))
    random_layers = _init_from(model, spec)
    freeze(model, spec.unfreeze)
    if spec.keep_statistics and (spec.weights != "none" or spec.init_from is not None):
        keep_statistics(model)
    # A layer with random weights must be trained, or all layers after it see noise.
    frozen = [name for name in random_layers if not model.get_layer(name).trainable]
    if frozen:
        raise InputError(
            f"--init-from has no weights for {', '.join(frozen[:5])}, and --unfreeze {spec.unfreeze} would freeze "
            f"{'it' if len(frozen) == 1 else 'them'} at random values. Pass --unfreeze {frozen[0]} or --unfreeze all."
        )
    if spec.caution:
        print(spec.caution)
    return model


def _init_from(model, spec) -> list[str]:
    """Loads the weights that `--init-from` names; returns the names of the layers that still have random ones."""
    if spec.init_from is None:
        return []
    not_loaded = init_from(model, spec.init_from)
    return [name for name in not_loaded if spec.weights == "none" and model.get_layer(name).trainable]


def _imagenet_file(spec) -> Path:
    """The ImageNet weights; an error before 45 MB are downloaded for a network that they do not fit."""
    if spec.architecture in LITES:
        return packaged_weights(spec.architecture)
    if (spec.architecture, spec.stem, spec.width) != ("resnet18", "imagenet", 64):
        raise InputError(
            "--weights imagenet is torchvision's ResNet18: --architecture resnet18 --stem imagenet --width 64. "
            f"Received: {spec.architecture}, stem {spec.stem}, width {spec.width}."
        )
    return imagenet_file()


__all__ = [
    "ARCHITECTURES",
    "application",
    "averaged",
    "backbone_and_head",
    "basic_cnn",
    "build",
    "cifar_resnet",
    "divide_logits",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "freeze",
    "head_layers",
    "init_from",
    "load_state_dict",
    "plain_cnn",
    "plain_cnn_3d",
    "resnet18",
    "save_state_dict",
    "small_resnet",
    "torchvision_names",
    "whiten",
    "whitened_cnn",
    "with_scores",
]
