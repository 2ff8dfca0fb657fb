"""The images that ranges are set from and files are checked with: their shape, and the range of their values."""

from typing import Any

import keras
import numpy as np

from keras_vision.keras_internals.pixels import PIXELS
from keras_vision.quantization.plain_model import plain_model, takes_pixels
from keras_vision.recipe import InputError

# A picture whose largest pixel is below this is no picture from 0 to 255.
LARGE_PIXEL = 64.0


def as_images(images: Any) -> np.ndarray:
    """Images as an array: from an array, or from what TensorFlow's converter takes.

    Args:
        images: Array-like, shape `(N, H, W, C)`; or a generator, or a function that returns one, of images or batches,
            each of which may be the only item of a list.

    Raises:
        InputError: If they are no images of one shape, or there are none.
    """
    if callable(images):
        images = images()
    if not hasattr(images, "shape"):
        images = _joined(images)
    if len(images) == 0:
        raise InputError("Representative images are needed. Received: none.")
    if len(images.shape) not in (4, 5):
        raise InputError(f"Representative images have shape (N, H, W, C). Received: {tuple(images.shape)}.")
    return images


def _joined(images):
    batches = []
    try:
        for item in images:
            if isinstance(item, dict):
                item = list(item.values())
            if isinstance(item, (list, tuple)) and len(item) == 1:
                item = item[0]
            batch = np.asarray(item)
            batches.append(batch[np.newaxis] if batch.ndim == 3 else batch)
        return np.concatenate(batches) if batches else np.zeros((0, 1, 1, 1))
    except (TypeError, ValueError) as error:
        raise InputError(
            "Representative images are an array of shape (N, H, W, C), or a generator of such images or batches."
        ) from error


def require_shape(model: keras.Model, images: np.ndarray) -> None:
    """Checks that a model takes such images.

    Raises:
        InputError: With both shapes.
    """
    taken = tuple(model.input_shape[1:])
    if taken != tuple(images.shape[1:]):
        raise InputError(
            f"The model {model.name!r} takes images of shape {taken}. Received: representative images of shape "
            f"{tuple(images.shape[1:])}."
        )


def input_range_of(
    model: keras.Model, images: np.ndarray, stated: tuple[float, float] | None = None
) -> tuple[float, float]:
    """What a model takes for black and white.

    It follows from the model where that scales pixels itself, else from float images; it is never guessed.

    Args:
        images: Representative images as the model takes them.
        stated: What the user says.

    Raises:
        InputError: If nothing says it, or two things contradict each other.
    """
    lowest, highest = float(np.min(images)), float(np.max(images))
    if not np.isfinite([lowest, highest]).all():
        raise InputError("The representative images have values that are not finite.")
    integers = np.issubdtype(np.asarray(images[:1]).dtype, np.integer)
    whole = integers or highest > LARGE_PIXEL
    own = takes_pixels(model)
    if stated is not None:
        low, high = (float(end) for end in stated)
        slack = 1e-3 * (high - low)
        if not low < high:
            raise InputError(f"input_range is (lowest, highest). Received: {tuple(stated)}.")
        if lowest < low - slack or highest > high + slack:
            raise InputError(
                f"The representative images have values from {lowest:g} to {highest:g}, outside of the input range "
                f"{low:g} to {high:g}. Pass them as the model takes them."
            )
        if own and (low, high) != PIXELS:
            raise InputError(
                f"The model {model.name!r} scales pixels from 0 to 255 itself, which the input range {low:g} to "
                f"{high:g} contradicts. Leave it out."
            )
        return low, high
    if own:
        if not whole or lowest < 0 or highest > 255:
            raise InputError(
                f"The model {model.name!r} scales pixels from 0 to 255 itself. Received: representative images with "
                f"values from {lowest:g} to {highest:g}. Pass unscaled images."
            )
        return PIXELS
    if not integers:
        if lowest >= 0 and whole and highest <= 255:
            return PIXELS
        if lowest >= 0 and highest <= 1:
            return 0.0, 1.0
        if lowest >= -1 and highest <= 1:
            return -1.0, 1.0
    plain_model(model)  # A layer without an 8-bit operator is the first thing to say.
    raise InputError(
        f"The model {model.name!r} does not begin with a layer that scales pixels, and the representative images have "
        f"{'whole ' if integers else ''}values from {lowest:g} to {highest:g}: pass input_range=(LOW, HIGH), what the "
        "model takes for black and white, and images as the model takes them."
    )


def as_bytes(images: Any, input_range: tuple[float, float]) -> np.ndarray:
    """The pixels of images in some range, as a file with 8-bit input takes them: uint8, 0 to 255."""
    low, high = input_range
    return np.clip(np.round((np.asarray(images, np.float64) - low) * (255 / (high - low))), 0, 255).astype(np.uint8)


def from_bytes(pixels: np.ndarray, input_range: tuple[float, float]) -> np.ndarray:
    """The images that some pixels stand for, float32."""
    low, high = input_range
    return (low + pixels.astype(np.float32) * np.float32((high - low) / 255)).astype(np.float32)


def example_images(image_shape: tuple[int, ...], count: int = 4) -> np.ndarray:
    """Pixels to check a file with where no images are at hand: coarse patterns and noise, uint8."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, *(-(-side // 4) for side in image_shape[:-1]), image_shape[-1]))
    for axis, side in enumerate(image_shape[:-1], 1):
        coarse = np.take(np.repeat(coarse, 4, axis=axis), range(side), axis=axis)
    noise = random.integers(-20, 21, (count, *image_shape))
    return np.clip(coarse + noise, 0, 255).astype(np.uint8)
