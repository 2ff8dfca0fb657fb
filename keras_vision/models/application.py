"""Any backbone of keras.applications, cut at a layer of the spec, as one flat graph that includes its preprocessing.

ImageNet weights, or a file in keras.applications' own layout, are loaded into the full backbone before the cut. Gray
images are repeated to three equal channels, because the weights were trained on RGB.
"""

import difflib
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.files.download import keras_home
from keras_vision.models import saved
from keras_vision.models.ends import resized, resized_shape, scaled, with_head
from keras_vision.models.shapes import require_pictures
from keras_vision.recipe import InputError, ModelSpec


def application(spec: ModelSpec, image_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """A backbone of keras.applications without its top, then global average pooling and the head.

    Args:
        spec: A `recipe.ModelSpec`; `backbone`, `cut_layer`, `input_size` and `weights` are read, and the head's fields.
        image_shape: `(H, W, C)` with one or three channels; the backbone sets the smallest side.
        num_classes: Number of logits.

    Raises:
        InputError: If the backbone or layer does not exist, the image shape is not accepted, or the weights are not
            available.
    """
    function = _function(spec.backbone)
    require_pictures(spec.backbone, resized_shape(spec, image_shape), at_least=1, channels=(1, 3))
    images = keras.Input(image_shape, name="images")
    x = images if image_shape[-1] == 3 else layers.Concatenate(name="gray_to_rgb")([images] * 3)
    scale, offset, order = preprocessing(function)
    if (scale, offset) != (1, 0):
        x = scaled(x, scale, offset)
    backbone = _backbone(function, resized(x, spec), spec)
    if spec.weights != "none":
        _reorder_channels(backbone, order)
    x = layers.GlobalAveragePooling2D(name="avgpool")(_cut(backbone, spec.cut_layer))
    return with_head(f"{spec.backbone.lower()}_classifier", images, x, spec, num_classes)


def _function(name):
    names = [item for item in dir(keras.applications) if item[0].isupper()]
    if name in names:
        return getattr(keras.applications, name)
    similar = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
    raise InputError(
        f"--backbone takes a network of keras.applications, such as {', '.join(similar)}. Received: {name}."
    )


def preprocessing(
    function: Callable[..., keras.Model],
) -> tuple[float | list[float], float | list[float], list[int]]:
    """The affine map of a backbone's `preprocess_input`, measured on four pixels.

    Every backbone of keras.applications scales and shifts each channel, and some turn RGB into BGR.

    Args:
        function: A backbone of `keras.applications`, such as `keras.applications.VGG19`.

    Returns:
        `(scale, offset, order)`: a number each, or a list for red, green and blue; `order` has the channel of the
        backbone's own input for red, green and blue.
    """
    family = getattr(keras.applications, function.__module__.rpartition(".")[2])
    black, *full = family.preprocess_input(np.concatenate([np.zeros((1, 1, 3)), 255 * np.eye(3)[:, np.newaxis]]))[:, 0]
    change = (np.array(full) - black) / 255
    order = change.argmax(axis=1)
    scale, offset = change[range(3), order], black[order]
    if np.ptp(scale) == 0 and np.ptp(offset) == 0:
        return float(scale[0]), float(offset[0]), order.tolist()
    return scale.tolist(), offset.tolist(), order.tolist()


def _reorder_channels(backbone, order):
    """Reorders the first kernel's channels so that the network takes RGB; needs no layer that reorders the input."""
    if order == [0, 1, 2]:
        return
    first: Any = next(layer for layer in backbone.layers if isinstance(layer, layers.Conv2D))
    kernel: Any = keras.ops.convert_to_numpy(first.kernel)
    first.kernel.assign(kernel[:, :, order])


def _backbone(function, x, spec):
    """The backbone applied to a tensor, with its initial weights."""
    weights = "imagenet" if spec.weights == "imagenet" else None
    try:
        backbone = function(include_top=False, weights=weights, input_tensor=x, input_shape=tuple(x.shape[1:]))
    except Exception as error:  # get_file: Exception for a failed download, ValueError for a wrong hash.
        reason = str(error).partition("\n")[0].strip().rstrip(".")
        address = re.search(r"https?://[^\s:]+", reason)
        if address or isinstance(error, OSError) or "corrupted file" in reason:
            raise _not_downloaded(spec, reason, address and address[0]) from error
        raise InputError(
            f"The backbone {spec.backbone} cannot be built for images of {x.shape[1]} x {x.shape[2]} pixels "
            f"({reason}). Choose another --input-size or --backbone."
        ) from error
    if spec.weights_path is not None:
        _read_weights(backbone, spec)
    return backbone


def _not_downloaded(spec, reason, address):
    folder = keras_home("models")
    # Keras keeps NASNet's files under other names than its server does.
    name = "" if address is None else address.rpartition("/")[2]
    place = folder / name.replace("NASNet-", "nasnet_").replace("-no-top", "_no_top")
    return InputError(
        f"Downloading the ImageNet weights of {spec.backbone} failed ({reason}). Three ways out: "
        f"fetch {address or 'the file that Keras names'} by hand and put it at {place}; pass a file that you have with "
        "--weights PATH; or try the track with --weights none."
    )


def _read_weights(backbone, spec):
    saved.load_weights(backbone, spec.weights_path, spec.backbone)
    print(f"Weights of {spec.backbone} loaded from {spec.weights_path}.")


def _cut(backbone, name):
    """The output of a backbone's layer; None means its last layer."""
    if name is None:
        return backbone.output
    names = [layer.name for layer in backbone.layers if len(layer.output.shape) == 4]
    if name not in names:
        similar = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[-3:]
        raise InputError(
            f"--cut-layer takes a layer of {backbone.name} with feature maps, such as {', '.join(similar)}. "
            f"Received: {name}."
        )
    return backbone.get_layer(name).output
