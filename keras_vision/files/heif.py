"""HEIC and HEIF photos, as phones write them, decoded by `pi_heif` or, where that is installed instead, `pillow_heif`.

Both have libheif inside. The wheels of `pillow_heif` also have an encoder under the GPL, so this package asks for
`pi_heif`, whose libraries are under the LGPL.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_vision.files import image_kinds, pixel_values, trial
from keras_vision.files.outside import UnreadableError

if TYPE_CHECKING:
    import numpy as np


_TRIAL = trial.started("keras_vision.files.heif_trial")


def decode(content: bytes) -> "np.ndarray":
    """The main image of a file, turned as the file says, transparent regions white.

    Args:
        content: Bytes of a file.

    Returns:
        uint8 array, shape `(H, W, 1)` or `(H, W, 3)`.

    Raises:
        UnreadableError: If no decoder is installed, the image has more than `MAX_PIXELS`, or it is damaged.
    """
    import numpy as np

    module = decoder()
    try:
        # pi_heif 1.4 crashes on a damaged list of a file's parts, so a child reads that first.
        _TRIAL.result(content)
        image = module.open_heif(content)  # The header only.
        if image.size[0] * image.size[1] > pixel_values.MAX_PIXELS:
            raise UnreadableError(pixel_values.TOO_MANY_PIXELS)
        # libheif applies the file's own turns and flips. EXIF repeats them, and must not be applied as well:
        # ISO 23008-12, annex A.
        values = np.array(image[image.primary_index])  # A copy: the decoder's memory ends with its object.
    except UnreadableError:
        raise
    except Exception as error:  # The decoder raises all kinds for a damaged file.
        raise UnreadableError(image_kinds.complaint(image_kinds.HEIC)) from error
    values = values[..., np.newaxis] if values.ndim == 2 else values
    if not image.has_alpha:
        return values
    premultiplied = bool(image.premultiplied_alpha)
    return pixel_values.over_white(values[..., :-1], values[..., -1:], premultiplied=premultiplied)


def decoder() -> Any:
    """The module that decodes.

    Raises:
        UnreadableError: If none is installed; the message says how to get one.
    """
    assert image_kinds.HEIC.extra is not None
    for name in image_kinds.HEIC.extra[1]:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise UnreadableError(image_kinds.needs(image_kinds.HEIC))
