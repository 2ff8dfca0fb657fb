"""Crops, flips and quarter turns: changes that move whole pixels and interpolate nothing."""

import numpy as np

from keras_vision.data.borders import bring_inside


def move_pixels(
    images: np.ndarray, drawn: dict[str, np.ndarray], fill_mode: str, cval: float, *, out: np.ndarray
) -> None:
    """Crops the padded images, then flips and then rotates them, written to `out`.

    Args:
        images: uint8 array, shape `(N, H, W, C)`.
        drawn: Dict of arrays of shape `(N,)`, see `augmentation.parameters`, of `crop_x`, `crop_y`,
            `flip_horizontal`, `flip_vertical` and `quarter_turns`; a missing key changes nothing.
        fill_mode: As in `augmentation.transform`.
        out: Float32 array, shape `(N, H, W, C)`.
    """
    count, height, width, channels = images.shape
    rows, rows_outside = _sources(height, count, drawn.get("crop_y"), drawn.get("flip_vertical"), fill_mode)
    columns, columns_outside = _sources(width, count, drawn.get("crop_x"), drawn.get("flip_horizontal"), fill_mode)
    rows += height * np.arange(count)[:, np.newaxis]
    places = (width * rows)[:, :, np.newaxis] + columns[:, np.newaxis, :]
    if fill_mode == "constant":
        places[rows_outside[:, :, np.newaxis] | columns_outside[:, np.newaxis, :]] = -1
    for turns in (1, 2, 3) if "quarter_turns" in drawn else ():
        turned = drawn["quarter_turns"] == turns
        places[turned] = np.rot90(places[turned], turns, (1, 2))
    out[...] = np.take(images.reshape(-1, channels), places, axis=0)
    if fill_mode == "constant":
        out[places < 0] = cval


def _sources(length, count, shift, flipped, fill_mode):
    """Source coordinate of each result pixel along one axis, and whether it is outside; shape `(N, length)`."""
    places = np.tile(np.arange(length, dtype=np.float32), (count, 1))
    if flipped is not None:
        places[flipped] = places[flipped, ::-1]
    if shift is not None:
        places += np.asarray(shift, np.float32)[:, np.newaxis]
    outside = (places < 0) | (places > length - 1)
    bring_inside(places, length, fill_mode)
    return places.astype(np.intp), outside
