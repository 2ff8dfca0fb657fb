"""An `albumentations.Compose` where an `AugmentationSpec` stands; the package itself does not need albumentations."""

import copy
import random
from typing import Any

import numpy as np

from keras_vision.data.draws import SharedColumns
from keras_vision.recipe import AugmentationSpec, InputError


class Albumentations:
    """Random changes of training pictures by albumentations, as repeatable as this package's own.

        changes = albumentations.Compose([albumentations.HorizontalFlip(), albumentations.CoarseDropout()])
        batches = data.Batches(splits.train, 10, 64, augmentation=data.Albumentations(changes), shuffle=True)

    An image's changes depend on `(seed, epoch, index)` alone, as long as all transforms draw from the generators that
    the Compose hands them; albumentations' own do. A seed of the Compose's own plays no part.

    Args:
        compose: An `albumentations.Compose` (2.0 or newer: `pip install "keras-vision[albumentations]"`) from uint8
            pictures to uint8 pictures of the same shape: the networks here scale pixels themselves.
        mixup: As in `AugmentationSpec`.

    Raises:
        InputError: If `compose` is not one, or `mixup` is negative.
    """

    def __init__(self, compose, *, mixup=0.0):
        if not callable(compose) or not hasattr(compose, "set_random_state"):
            raise InputError(
                "Albumentations takes an albumentations.Compose, of version 2.0 or newer. "
                f"Received: {type(compose).__name__}."
            )
        self.compose: Any = compose
        self.mixup = AugmentationSpec(mixup=mixup).mixup  # Checked as a recipe's.

    def check_shape(self, shape):
        """Raises an `InputError` unless a shape is that of pictures, `(N, H, W, C)`."""
        if len(shape) != 4:
            raise InputError(
                f"Albumentations is for pictures of shape (N, H, W, C) alone. Received: images of shape {shape}."
            )

    def augment(self, images, draws):
        """Random versions of pictures; `augmentation.augment` calls it.

        Args:
            images: uint8 array, shape `(N, H, W, C)`.
            draws: Rows of `augmentation.uniforms`, one an image.

        Returns:
            Float32 array of the same shape, in `[0, 255]`.

        Raises:
            InputError: If the Compose gives back something else than uint8 pictures of that shape.
        """
        # A Compose holds its generators, so threads cannot share one, and the user's stays as it is.
        compose = copy.deepcopy(self.compose)
        changed = np.empty(images.shape, np.float32)
        for index, image in enumerate(images):
            seed = int(draws[index, SharedColumns.ALBUMENTATIONS] * 2**53)  # All of its random bits.
            # Not `set_random_seed`: it starts a generator of that seed in every transform, so that all of them draw
            # the same numbers, and a horizontal flip never comes without the vertical one (measured with 2.0.8).
            compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
            # A copy, because a transform may work in place.
            result = compose(image=image.copy())["image"]
            if getattr(result, "dtype", None) != np.uint8 or result.shape != image.shape:
                raise InputError(
                    "An albumentations.Compose has to give back uint8 pictures of the shape that it takes, so it can "
                    "have no resizing, Normalize, ToFloat or ToTensorV2. "
                    f"Received: {_kind(result)} for a picture of shape {image.shape}."
                )
            changed[index] = result
        return changed


def _kind(result):
    shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
    return type(result).__name__ if shape is None else f"{dtype} of shape {tuple(shape)}"
