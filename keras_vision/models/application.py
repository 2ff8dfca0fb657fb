"""Any backbone of keras.applications, cut where the spec says, as one flat graph with its preprocessing inside.

Its ImageNet weights, or a file of keras.applications' own layout, are read into the whole backbone before it is cut.
Gray pictures are given to it in three equal channels, which is what its weights were trained on.
"""

import difflib
import re
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_vision.files.download import keras_home
from keras_vision.models.ends import resized, resized_shape, scaled, with_head
from keras_vision.models.shapes import require_pictures
from keras_vision.recipe import InputError, first_line


def application(spec, image_shape, num_classes):
    """A backbone of keras.applications without its top; then global average pooling and the head.

    Args:
        spec: A `recipe.ModelSpec`; `backbone`, `cut_layer`, `input_size` and `weights` are read, and the head's knobs.
        image_shape: `(H, W, C)`, one channel or three; the smallest side is the backbone's own.
        num_classes: Number of logits.

    Raises:
        InputError: If there is no such backbone or layer, it takes no such pictures, or its weights cannot be had.
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
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names
    raise InputError(f"--backbone takes a network of keras.applications, such as {', '.join(near)}. Received: {name}.")


def preprocessing(function):
    """What the `preprocess_input` of a backbone does to a pixel, asked by giving it four.

    All of keras.applications multiply and shift each channel, and some turn RGB into BGR.

    Returns:
        `(scale, offset, order)`: numbers, or a list of them for red, green and blue; and which channel of the
        backbone's own input red, green and blue are.
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
    """Lets the first convolution take red, green and blue in that order, whichever its weights were trained with.

    The same as reordering the channels of its input, without a layer for it.
    """
    if order == [0, 1, 2]:
        return
    first = next(layer for layer in backbone.layers if isinstance(layer, layers.Conv2D))
    kernel: Any = keras.ops.convert_to_numpy(first.kernel)
    first.kernel.assign(kernel[:, :, order])


def _backbone(function, x, spec):
    """The backbone on top of a tensor, with its first weights."""
    weights = "imagenet" if spec.weights == "imagenet" else None
    try:
        backbone = function(include_top=False, weights=weights, input_tensor=x, input_shape=tuple(x.shape[1:]))
    except Exception as error:  # get_file raises a bare Exception for a failed download, ValueError for a wrong hash.
        reason = str(error).partition("\n")[0].strip().rstrip(".")
        address = re.search(r"https?://[^\s:]+", reason)
        if address or isinstance(error, OSError) or "corrupted file" in reason:
            raise _not_downloaded(spec, reason, address and address[0]) from error
        raise InputError(
            f"The backbone {spec.backbone} cannot be built for pictures of {x.shape[1]} x {x.shape[2]} pixels "
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
        f"fetch {address or 'the file that Keras names'} by hand and put it at {place}; name a file that you have with "
        "--weights PATH; or try the track with --weights none."
    )


def _read_weights(backbone, spec):
    try:
        backbone.load_weights(spec.weights_path)
    except Exception as error:  # Whatever a damaged file makes of Keras's and HDF5's readers.
        raise InputError(
            f"--weights {spec.weights} cannot be read into {spec.backbone} ({first_line(error).rstrip('.')}): it takes "
            "an .h5, .weights.h5 or .keras file of keras.applications' network without its top (include_top=False)."
        ) from error
    print(f"Weights of {spec.backbone} taken from {spec.weights_path}.")


def _cut(backbone, name):
    """The output of a backbone's layer, of the last one for None."""
    if name is None:
        return backbone.output
    names = [layer.name for layer in backbone.layers if len(layer.output.shape) == 4]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[-3:]
        raise InputError(
            f"--cut-layer takes a layer with feature maps of {backbone.name}, such as {', '.join(near)}. "
            f"Received: {name}."
        )
    return backbone.get_layer(name).output
