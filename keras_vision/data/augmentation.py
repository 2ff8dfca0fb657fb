"""Random changes of training images, with ImageDataGenerator's parameters and results, a batch at a time.

All geometry of one image (crop, rotation, shift, shear, zoom, flips, quarter turns) is one affine map, so every image
is interpolated once, and not at all when its pixels only change places. A batch is stacked into one tall image and
resampled by a single call of OpenCV instead of a loop over images, which is what makes it fast.

Shapes: N images, H rows, W columns, C channels.
"""

import functools
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from keras_vision.data.albumentations_adapter import Albumentations
from keras_vision.data.borders import bring_inside
from keras_vision.data.color_jitter import change_contrast, change_hue, change_saturation
from keras_vision.data.draws import ImageColumns, uniforms
from keras_vision.data.erasing import cutout, random_erasing
from keras_vision.data.noise import add_noise
from keras_vision.data.volume_augmentation import augment_volumes
from keras_vision.data.whole_pixels import move_pixels
from keras_vision.files.cores import cores
from keras_vision.files.image_files import one_thread_each
from keras_vision.recipe import AugmentationSpec

__all__ = ["augment", "parameters", "transform", "uniforms"]

_WHOLE_PIXELS = {"crop_x", "crop_y", "flip_horizontal", "flip_vertical", "quarter_turns"}
_INTENSITY = {"channel_shift_intensity", "brightness", "contrast", "saturation", "hue"}

# Largest ratio of width to height, or height to width, of a resized crop's window; torchvision's default.
_WINDOW_ASPECT = 4 / 3

_CHUNK_PIXELS = 2**15  # A chunk's images and maps fit in the processor's cache; 2^14 to 2^16 measured fastest.
THREADED_PIXELS = 2**19  # Of a batch from which on threads share it, ten images of 224 x 224.
_LONGEST_ROW = 2**15 - 1  # OpenCV counts a remapped image's columns and rows in 16 bits.
_CHUNK_ROWS = 2048  # See _resample.


def augment(images: np.ndarray, spec: AugmentationSpec | Albumentations, draws: np.ndarray) -> np.ndarray:
    """Random versions of images.

    Args:
        images: uint8 array, shape `(N, H, W, C)`, or `(N, D, H, W, C)` for volumes.
        spec: What to do; its `mixup` is not done here.
        draws: Rows of `draws.uniforms`, one per image, shape `(N, DRAWS)`.

    Returns:
        Float32 array of the same shape, in `[0, 255]`.

    Raises:
        InputError: If the spec does not suit these images, see `AugmentationSpec.check_shape`.
    """
    spec.check_shape(images.shape)
    if isinstance(spec, Albumentations):
        return spec.augment(images, draws)
    if images.ndim == 5:
        return augment_volumes(images, spec, draws)
    changed = transform(images, parameters(spec, draws, images.shape[1:3]), spec.fill_mode, spec.cval)
    if spec.noise:
        add_noise(changed, spec.noise, draws[:, ImageColumns.NOISE])
    if spec.random_erasing:
        random_erasing(changed, spec.random_erasing, draws[:, ImageColumns.ERASING])
    if spec.cutout:
        cutout(changed, spec.cutout, draws[:, ImageColumns.CUTOUT_X], draws[:, ImageColumns.CUTOUT_Y])
    return changed


def parameters(spec: AugmentationSpec, draws: np.ndarray, image_size: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The changes of each image, named as in ImageDataGenerator's `get_random_transform`.

    Keras takes `tx`, a shift along x, from `height_shift_range`, and `ty` from `width_shift_range`; here each range
    moves the image in the direction of its name.

    Args:
        draws: Rows of `draws.uniforms`, shape `(N, DRAWS)`.
        image_size: `(height, width)` in pixels.

    Returns:
        Dict of arrays of shape `(N,)`: `theta` and `shear` in degrees, `tx` and `ty` in pixels, `zx`, `zy`,
        `crop_x` and `crop_y` in whole pixels, for a resized crop `window_x` and `window_y`, the window's centre in
        pixels from the image's, and `window_width` and `window_height`, shares of the image's, `flip_horizontal`,
        `flip_vertical`, `quarter_turns`, `channel_shift_intensity`, the factors `brightness`, `contrast` and
        `saturation`, `hue` in turns. A change that is off has no key.
    """
    height, width = image_size

    def symmetric(column, reach):
        return (2 * draws[:, column] - 1) * reach

    drawn = {}
    if spec.rotation_range:
        drawn["theta"] = symmetric(ImageColumns.ROTATION, spec.rotation_range)
    if spec.width_shift_range:
        drawn["tx"] = symmetric(ImageColumns.WIDTH_SHIFT, spec.width_shift_range * width)
    if spec.height_shift_range:
        drawn["ty"] = symmetric(ImageColumns.HEIGHT_SHIFT, spec.height_shift_range * height)
    if spec.shear_range:
        drawn["shear"] = symmetric(ImageColumns.SHEAR, spec.shear_range)
    if spec.zoom_range:
        drawn["zx"] = 1 + symmetric(ImageColumns.ZOOM_X, spec.zoom_range)
        drawn["zy"] = drawn["zx"] if spec.isotropic_zoom else 1 + symmetric(ImageColumns.ZOOM_Y, spec.zoom_range)
    if spec.random_crop:
        places = 2 * spec.random_crop + 1
        drawn["crop_x"] = np.floor(places * draws[:, ImageColumns.CROP_X]) - spec.random_crop
        drawn["crop_y"] = np.floor(places * draws[:, ImageColumns.CROP_Y]) - spec.random_crop
    if spec.random_resized_crop:
        drawn |= _window(spec.random_resized_crop, draws[:, ImageColumns.WINDOW].T, width, height)
    if spec.horizontal_flip:
        drawn["flip_horizontal"] = draws[:, ImageColumns.FLIP_HORIZONTAL] < 0.5
    if spec.vertical_flip:
        drawn["flip_vertical"] = draws[:, ImageColumns.FLIP_VERTICAL] < 0.5
    if spec.rotate90:
        drawn["quarter_turns"] = (4 * draws[:, ImageColumns.QUARTER_TURNS]).astype(int)
    if spec.channel_shift_range:
        drawn["channel_shift_intensity"] = symmetric(ImageColumns.CHANNEL_SHIFT, spec.channel_shift_range)
    if spec.brightness_range not in (None, (1, 1)):
        darkest, brightest = spec.brightness_range
        drawn["brightness"] = darkest + (brightest - darkest) * draws[:, ImageColumns.BRIGHTNESS]
    if spec.contrast:
        drawn["contrast"] = 1 + symmetric(ImageColumns.CONTRAST, spec.contrast)
    if spec.saturation:
        drawn["saturation"] = 1 + symmetric(ImageColumns.SATURATION, spec.saturation)
    if spec.hue:
        drawn["hue"] = symmetric(ImageColumns.HUE, spec.hue)
    return drawn


def _window(smallest, draws, width, height):
    """The window of a resized crop: share of the area, aspect on a logarithmic scale, position."""
    area = smallest + (1 - smallest) * draws[0]
    aspect = _WINDOW_ASPECT ** (2 * draws[1] - 1) * height / width
    # A window that is too wide or too high is cut; torchvision draws another one.
    window_width, window_height = np.minimum(1, np.sqrt(area * aspect)), np.minimum(1, np.sqrt(area / aspect))
    return {
        "window_width": window_width,
        "window_height": window_height,
        "window_x": (draws[2] - 0.5) * (1 - window_width) * width,
        "window_y": (draws[3] - 0.5) * (1 - window_height) * height,
    }


def transform(
    images: np.ndarray, drawn: dict[str, np.ndarray], fill_mode: str = "nearest", cval: float = 0.0
) -> np.ndarray:
    """Images changed by `parameters`, as by Keras's legacy `ImageDataGenerator.apply_transform`.

    Additions to ImageDataGenerator: crops come before all other geometry; contrast, saturation and hue follow
    brightness.

    Args:
        images: uint8 array, shape `(N, H, W, C)`.
        drawn: Dict of arrays of shape `(N,)`, see `parameters`; a missing key changes nothing.
        fill_mode: `nearest` (aaa|abcd|ddd), `constant` (`cval`), `reflect` (cba|abcd|dcb), or `wrap`, which is
            SciPy's `wrap` as in Keras: its period is one pixel less than the image.

    Returns:
        Float32 array, shape `(N, H, W, C)`, in `[0, 255]`.
    """
    count, height, width, _ = images.shape
    geometry = {name: values for name, values in drawn.items() if name not in _INTENSITY}
    if not geometry:
        changed = images.astype(np.float32, order="C")  # Contiguous: colours are changed in place, in reshaped views.
    else:
        affine = None if _WHOLE_PIXELS.issuperset(geometry) else _affine(geometry, count)
        changed = np.empty(images.shape, np.float32)
        step = max(1, min(_CHUNK_PIXELS // (height * width), _CHUNK_ROWS // height))

        def change(start):
            part = slice(start, start + step)
            if affine is None:
                some = {name: values[part] for name, values in geometry.items()}
                move_pixels(images[part], some, fill_mode, cval, out=changed[part])
            else:
                linear, shift = affine
                _resample(images[part], linear[part], shift[part], fill_mode, cval, out=changed[part])

        _for_each(change, range(0, count, step), count * height * width)
    if "channel_shift_intensity" in drawn:
        low, high = changed.min((1, 2, 3), keepdims=True), changed.max((1, 2, 3), keepdims=True)
        np.clip(changed + _per_image(drawn["channel_shift_intensity"]), low, high, out=changed)
    if "brightness" in drawn:
        # Pillow, which Keras used for this, truncates to whole numbers before and after.
        np.floor(np.floor(changed) * _per_image(drawn["brightness"]), out=changed)
        np.minimum(changed, 255, out=changed)
    if "contrast" in drawn:
        change_contrast(changed, drawn["contrast"])
    if "saturation" in drawn:
        change_saturation(changed, drawn["saturation"])
    if "hue" in drawn:
        change_hue(changed, drawn["hue"])
    return changed


def _for_each(change, starts, pixels):
    """Calls a function for each chunk of a batch, in threads where the batch is large."""
    if pixels < THREADED_PIXELS or len(starts) == 1:
        for start in starts:
            change(start)
        return
    with one_thread_each():  # OpenCV's own threads for each image take more time of the processor.
        list(_threads().map(change, starts))


@functools.cache
def _threads():
    return ThreadPoolExecutor(cores())


def _per_image(values):
    return np.asarray(values, np.float32)[:, np.newaxis, np.newaxis, np.newaxis]


def _affine(drawn, count):
    """Where each output pixel comes from, about the centre: `source = linear @ target + shift`, in (x, y).

    Keras multiplies rotation, shift, shear and zoom in this order; flips and quarter turns come last. A crop moves the
    image before all of them, and a resized crop also enlarges it.
    """
    zero, one = np.zeros(count), np.ones(count)
    theta, shear = np.deg2rad(drawn.get("theta", zero)), np.deg2rad(drawn.get("shear", zero))
    tx, ty, zx, zy = drawn.get("tx", zero), drawn.get("ty", zero), drawn.get("zx", one), drawn.get("zy", one)
    sin, cos = np.sin(theta), np.cos(theta)
    linear = np.empty((count, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = cos * zx, -np.sin(theta + shear) * zy
    linear[:, 1, 0], linear[:, 1, 1] = sin * zx, np.cos(theta + shear) * zy
    shift = np.stack([cos * tx - sin * ty, sin * tx + cos * ty], axis=1)
    if "crop_x" in drawn:
        shift += np.stack([drawn["crop_x"], drawn["crop_y"]], axis=1)
    if "window_x" in drawn:
        sides = np.stack([drawn["window_width"], drawn["window_height"]], axis=1)
        linear *= sides[:, :, np.newaxis]
        shift = shift * sides + np.stack([drawn["window_x"], drawn["window_y"]], axis=1)
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
    # SciPy fills everything beyond the outermost pixels' centres with `cval`, so the last bit matters there.
    dtype = np.float64 if fill_mode == "constant" else np.float32
    # One small matrix product per image, (2, 3) @ (3, HW): in a single product, the last bits of an image's coordinates
    # would depend on its position in the batch.
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
    # Rounded to 2^-12 pixel, a row coordinate keeps all its bits when the rows above are added, up to row 4096: so an
    # image's result does not depend on its position in the stack.
    map_y += np.float32(2048)
    map_y += (height * np.arange(count, dtype=np.float32) - 2048)[:, np.newaxis]
    tall = images.astype(np.float32).reshape(count * height, width, channels)
    # OpenCV resamples four float channels more than twice as fast as three (1.9 against 4.8 us per image).
    padded = cv2.cvtColor(tall, cv2.COLOR_RGB2RGBA) if channels == 3 else tall
    # One image per row of the result is the fastest layout, as long as OpenCV accepts rows of that length.
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
    """Rows x, y and 1: every pixel's coordinates about the centre, shape `(3, H * W)`."""
    y, x = np.indices((height, width)).reshape(2, -1)
    grid = np.stack([x - (width / 2 - 0.5), y - (height / 2 - 0.5), np.ones(height * width)])
    grid.flags.writeable = False
    return grid
