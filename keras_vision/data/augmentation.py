"""Random changes of training images, with ImageDataGenerator's parameters and pictures, a batch at a time.

All geometry of one image (rotation, shift, shear, zoom, flips, quarter turns) is one affine map, so every image is
interpolated once. A batch is stacked into one tall picture and resampled by a single call of OpenCV: that, not a loop
over images, is where the speed comes from.

Shapes: N images, H rows, W columns, C channels.
"""

import functools

import cv2
import numpy as np

from keras_vision.data.borders import bring_inside
from keras_vision.data.noise import add_noise
from keras_vision.data.volume_augmentation import augment_volumes

DRAWS = 16  # Random numbers an image has to spend; more than are used, so that a new change moves none of the old.
(
    _ROTATION,
    _WIDTH_SHIFT,
    _HEIGHT_SHIFT,
    _SHEAR,
    _ZOOM_X,
    _ZOOM_Y,
    _FLIP_HORIZONTAL,
    _FLIP_VERTICAL,
    _CHANNEL_SHIFT,
    _BRIGHTNESS,
    _QUARTER_TURNS,
    _CUTOUT_X,
    _CUTOUT_Y,
    _NOISE,
) = range(14)

_CHUNK_PIXELS = 2**15  # A chunk's pictures and maps stay in the processor's cache; measured best from 2^14 to 2^16.
_LONGEST_ROW = 2**15 - 1  # OpenCV counts a remapped picture's columns and rows in 16 bits.
_CHUNK_ROWS = 2048  # See _resample.


def uniforms(seed, epoch, count):
    """Random numbers for `count` images: row `i` depends on `(seed, epoch, i)` and on nothing else.

    Returns:
        Float array, shape `(count, DRAWS)`, in `[0, 1)`.
    """
    # A counter-based generator: its numbers are a function of key and position, so no row needs the rows before it.
    key = np.random.SeedSequence(seed, spawn_key=(0, epoch))
    return np.random.Generator(np.random.Philox(key)).random((count, DRAWS))


def augment(images, spec, draws):
    """Random versions of images.

    Args:
        images: uint8 array, shape `(N, H, W, C)`, or `(N, D, H, W, C)` for volumes.
        spec: A `recipe.AugmentationSpec`.
        draws: Rows of `uniforms`, one an image, shape `(N, DRAWS)`.

    Returns:
        Float32 array of the same shape, in `[0, 255]`.

    Raises:
        InputError: If the spec asks for what these images cannot have, see `AugmentationSpec.check_shape`.
    """
    spec.check_shape(images.shape)
    if images.ndim == 5:
        return augment_volumes(images, spec, draws)
    changed = transform(images, parameters(spec, draws, images.shape[1:3]), spec.fill_mode, spec.cval)
    if spec.noise:
        add_noise(changed, spec.noise, draws[:, _NOISE])
    if spec.cutout:
        _cutout(changed, spec.cutout, draws[:, _CUTOUT_X], draws[:, _CUTOUT_Y])
    return changed


def parameters(spec, draws, image_size):
    """What happens to each image, in the words of ImageDataGenerator's `get_random_transform`.

    Keras's own draws `tx`, a shift along x, from `height_shift_range`, and `ty` from `width_shift_range`; here each
    range moves the picture the way that its name says.

    Args:
        draws: Rows of `uniforms`, shape `(N, DRAWS)`.
        image_size: `(height, width)` in pixels.

    Returns:
        Dict of arrays of shape `(N,)`: `theta` and `shear` in degrees, `tx` and `ty` in pixels, `zx`, `zy`,
        `flip_horizontal`, `flip_vertical`, `quarter_turns`, `channel_shift_intensity`, `brightness`. What is off is
        not in it.
    """
    height, width = image_size

    def symmetric(column, reach):
        return (2 * draws[:, column] - 1) * reach

    drawn = {}
    if spec.rotation_range:
        drawn["theta"] = symmetric(_ROTATION, spec.rotation_range)
    if spec.width_shift_range:
        drawn["tx"] = symmetric(_WIDTH_SHIFT, spec.width_shift_range * width)
    if spec.height_shift_range:
        drawn["ty"] = symmetric(_HEIGHT_SHIFT, spec.height_shift_range * height)
    if spec.shear_range:
        drawn["shear"] = symmetric(_SHEAR, spec.shear_range)
    if spec.zoom_range:
        drawn["zx"] = 1 + symmetric(_ZOOM_X, spec.zoom_range)
        drawn["zy"] = drawn["zx"] if spec.isotropic_zoom else 1 + symmetric(_ZOOM_Y, spec.zoom_range)
    if spec.horizontal_flip:
        drawn["flip_horizontal"] = draws[:, _FLIP_HORIZONTAL] < 0.5
    if spec.vertical_flip:
        drawn["flip_vertical"] = draws[:, _FLIP_VERTICAL] < 0.5
    if spec.rotate90:
        drawn["quarter_turns"] = (4 * draws[:, _QUARTER_TURNS]).astype(int)
    if spec.channel_shift_range:
        drawn["channel_shift_intensity"] = symmetric(_CHANNEL_SHIFT, spec.channel_shift_range)
    if spec.brightness_range not in (None, (1, 1)):
        darkest, brightest = spec.brightness_range
        drawn["brightness"] = darkest + (brightest - darkest) * draws[:, _BRIGHTNESS]
    return drawn


def transform(images, drawn, fill_mode="nearest", cval=0.0):
    """The pictures that `parameters` describe, as Keras's legacy `ImageDataGenerator.apply_transform` makes them.

    Args:
        images: uint8 array, shape `(N, H, W, C)`.
        drawn: Dict of arrays of shape `(N,)`, see `parameters`; a missing key leaves that property alone.
        fill_mode: `nearest` (aaa|abcd|ddd), `constant` (`cval`), `reflect` (cba|abcd|dcb), or `wrap`, which is
            SciPy's `wrap` as in Keras: its period is one pixel less than the picture.

    Returns:
        Float32 array, shape `(N, H, W, C)`, in `[0, 255]`.
    """
    count, height, width, _ = images.shape
    if {"channel_shift_intensity", "brightness"}.issuperset(drawn):
        changed = images.astype(np.float32)
    else:
        linear, shift = _affine(drawn, count)
        changed = np.empty(images.shape, np.float32)
        step = max(1, min(_CHUNK_PIXELS // (height * width), _CHUNK_ROWS // height))
        for start in range(0, count, step):
            part = slice(start, start + step)
            _resample(images[part], linear[part], shift[part], fill_mode, cval, out=changed[part])
    if "channel_shift_intensity" in drawn:
        low, high = changed.min((1, 2, 3), keepdims=True), changed.max((1, 2, 3), keepdims=True)
        np.clip(changed + _per_image(drawn["channel_shift_intensity"]), low, high, out=changed)
    if "brightness" in drawn:
        # Pillow, which Keras used for this, cuts to whole numbers before and after.
        np.floor(np.floor(changed) * _per_image(drawn["brightness"]), out=changed)
        np.minimum(changed, 255, out=changed)
    return changed


def _per_image(values):
    return np.asarray(values, np.float32)[:, np.newaxis, np.newaxis, np.newaxis]


def _affine(drawn, count):
    """Where each output pixel comes from, about the centre: `source = linear @ target + shift`, in (x, y).

    Keras multiplies rotation, shift, shear and zoom in this order; flips and quarter turns come on top.
    """
    zero, one = np.zeros(count), np.ones(count)
    theta, shear = np.deg2rad(drawn.get("theta", zero)), np.deg2rad(drawn.get("shear", zero))
    tx, ty, zx, zy = drawn.get("tx", zero), drawn.get("ty", zero), drawn.get("zx", one), drawn.get("zy", one)
    sin, cos = np.sin(theta), np.cos(theta)
    linear = np.empty((count, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = cos * zx, -np.sin(theta + shear) * zy
    linear[:, 1, 0], linear[:, 1, 1] = sin * zx, np.cos(theta + shear) * zy
    shift = np.stack([cos * tx - sin * ty, sin * tx + cos * ty], axis=1)
    if "flip_horizontal" in drawn:
        linear[:, :, 0] *= np.where(drawn["flip_horizontal"], -1, 1)[:, np.newaxis]
    if "flip_vertical" in drawn:
        linear[:, :, 1] *= np.where(drawn["flip_vertical"], -1, 1)[:, np.newaxis]
    if "quarter_turns" in drawn:
        turns = np.array([[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]])
        linear = linear @ turns[drawn["quarter_turns"]]
    return linear, shift


def _resample(images, linear, shift, fill_mode, cval, *, out):
    """Bilinear values of the images at their affine coordinates, written to `out`."""
    count, height, width, channels = images.shape
    # SciPy fills with `cval` all that lies beyond the outermost pixels' centres, so there the last bit decides.
    dtype = np.float64 if fill_mode == "constant" else np.float32
    # One small matrix product an image, (2, 3) @ (3, HW): in one product for all of them, the last bits of an image's
    # coordinates would depend on its place in the batch.
    rows = np.empty((count, 2, 3), dtype)
    rows[..., :2] = linear
    rows[..., 2] = shift + np.array((width, height)) / 2 - 0.5
    places = rows @ _grid(height, width).astype(dtype)
    map_x, map_y = places[:, 0], places[:, 1]
    outside = None
    if fill_mode == "constant":
        slack = 1e-9
        outside = (map_x < -slack) | (map_x > width - 1 + slack) | (map_y < -slack) | (map_y > height - 1 + slack)
        map_x, map_y = map_x.astype(np.float32), map_y.astype(np.float32)
    bring_inside(map_x, width, fill_mode)
    bring_inside(map_y, height, fill_mode)
    # Rounded to 2^-12 pixel, a row's place keeps all its bits when the rows above are added, up to row 4096: so an
    # image comes out the same wherever it stands in the stack.
    map_y += np.float32(2048)
    map_y += (height * np.arange(count, dtype=np.float32) - 2048)[:, np.newaxis]
    tall = images.astype(np.float32).reshape(count * height, width, channels)
    # OpenCV resamples four float channels more than twice as fast as three (1.9 against 4.8 us an image).
    padded = cv2.cvtColor(tall, cv2.COLOR_RGB2RGBA) if channels == 3 else tall
    # One image a row of the result is the fastest layout, as long as OpenCV takes rows of that length.
    layout = (count, -1) if height * width < _LONGEST_ROW else (count * height, width)
    sampled = cv2.remap(
        padded, map_x.reshape(layout), map_y.reshape(layout), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if channels == 3:
        cv2.cvtColor(sampled, cv2.COLOR_RGBA2RGB, dst=out.reshape(*sampled.shape[:2], 3))
    else:
        out[...] = sampled.reshape(out.shape)
    if outside is not None:
        out.reshape(count, height * width, channels)[outside] = cval


@functools.lru_cache(maxsize=8)
def _grid(height, width):
    """Rows x, y and 1 of every pixel's place about the centre, shape `(3, H * W)`."""
    y, x = np.indices((height, width)).reshape(2, -1)
    grid = np.stack([x - (width / 2 - 0.5), y - (height / 2 - 0.5), np.ones(height * width)])
    grid.flags.writeable = False
    return grid


def _cutout(images, share, draws_x, draws_y):
    """Fills a square with its image's mean colour, in place (DeVries and Taylor 2017, arxiv.org/abs/1708.04552).

    The square's centre is anywhere in the picture, so that it may reach over the rim, as in the paper.
    """
    _, height, width, _ = images.shape
    half = share * min(height, width) / 2
    in_rows = np.abs(np.arange(height) + 0.5 - (draws_y * height)[:, np.newaxis]) <= half
    in_columns = np.abs(np.arange(width) + 0.5 - (draws_x * width)[:, np.newaxis]) <= half
    square = in_rows[:, :, np.newaxis, np.newaxis] & in_columns[:, np.newaxis, :, np.newaxis]
    np.copyto(images, images.mean((1, 2), keepdims=True), where=square)
