"""Random numbers of the data stage: which stream serves which purpose, and which column which change.

Streams are counter-based, so a number is a function of its key and its position: row `i` of an epoch depends on
`(seed, epoch, i)`, never on batch size, order or history. A run must be repeatable by later versions of this package,
so no number in these tables ever changes; a new change gets a free column, which moves no other.
"""

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """Purposes of the streams with the key `(seed, purpose, epoch)`."""

    FIRST_BLOCK = 0  # Columns 0 to 15 of `uniforms`.
    ORDER = 1  # Order of the images in an epoch.
    SECOND_BLOCK = 2  # Columns 16 to 31 of `uniforms`.
    PARTNERS = 3  # Second image of each mixture of mixup.


# Key of the choice of a validation split. It has no epoch, so it is not the key of the second block in any epoch.
VALIDATION_KEY = (2,)

BLOCK = 16  # Columns per stream.
DRAWS = 2 * BLOCK


class ImageColumns:
    """Columns of `uniforms` that 2D images use."""

    ROTATION = 0
    WIDTH_SHIFT = 1
    HEIGHT_SHIFT = 2
    SHEAR = 3
    ZOOM_X = 4
    ZOOM_Y = 5
    FLIP_HORIZONTAL = 6
    FLIP_VERTICAL = 7
    CHANNEL_SHIFT = 8
    BRIGHTNESS = 9
    QUARTER_TURNS = 10
    CUTOUT_X = 11
    CUTOUT_Y = 12
    NOISE = 13
    # 14 and 15 are used by volumes only.
    CROP_X = 16
    CROP_Y = 17
    CONTRAST = 18
    SATURATION = 19
    HUE = 20
    ERASING = slice(21, 26)  # Whether, area, aspect, y, x.
    WINDOW = slice(28, 32)  # Of a resized crop: area, aspect, x, y.


class VolumeColumns:
    """Columns of `uniforms` that volumes use: the images' where both have a change; axes in the order (D, H, W)."""

    ROTATION = (ImageColumns.ROTATION, 11, 12)
    SHIFT = (3, ImageColumns.HEIGHT_SHIFT, ImageColumns.WIDTH_SHIFT)
    ZOOM = (14, ImageColumns.ZOOM_Y, ImageColumns.ZOOM_X)
    FLIP = (15, ImageColumns.FLIP_VERTICAL, ImageColumns.FLIP_HORIZONTAL)
    CHANNEL_SHIFT = ImageColumns.CHANNEL_SHIFT
    BRIGHTNESS = ImageColumns.BRIGHTNESS
    CUBE_ROTATION = 10
    NOISE = ImageColumns.NOISE
    # 16 to 25 and 28 to 31 are free.


class SharedColumns:
    """Columns of `uniforms` that may be read together with either table."""

    MIXUP = 26
    ALBUMENTATIONS = 27


def generator(seed: int, purpose: Purpose, epoch: int) -> np.random.Generator:
    """Random numbers of one purpose in one epoch."""
    return _generator(seed, (purpose, epoch))


def validation_generator(seed: int) -> np.random.Generator:
    """Random numbers for the choice of a validation split."""
    return _generator(seed, VALIDATION_KEY)


def _generator(seed: int, key: tuple[int, ...]) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))


def uniforms(seed: int, epoch: int, count: int, *, alternate_flips: bool = False) -> np.ndarray:
    """Random numbers for `count` images: row `i` depends only on `(seed, epoch, i)`.

    Args:
        alternate_flips: Whether an odd epoch mirrors left and right exactly the images that the epoch before did not.
            Two epochs then show each image once each way: Jordan 2024, https://arxiv.org/abs/2404.00498, section 3.6.

    Returns:
        Float array, shape `(count, DRAWS)`, in `[0, 1)`.
    """
    blocks = (Purpose.FIRST_BLOCK, Purpose.SECOND_BLOCK)
    draws = np.concatenate([generator(seed, purpose, epoch).random((count, BLOCK)) for purpose in blocks], axis=1)
    if alternate_flips and epoch % 2:
        before = generator(seed, Purpose.FIRST_BLOCK, epoch - 1).random((count, BLOCK))
        draws[:, ImageColumns.FLIP_HORIZONTAL] = (before[:, ImageColumns.FLIP_HORIZONTAL] + 0.5) % 1
    return draws
