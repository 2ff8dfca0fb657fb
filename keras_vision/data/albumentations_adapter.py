"""An `albumentations.Compose` in place of an `AugmentationSpec`; the package itself does not need albumentations."""

import copy
import random
from typing import Any

import numpy as np

from keras_vision.data.draws import SharedColumns
from keras_vision.recipe import AugmentationSpec, InputError


class Albumentations:
    """Random changes of training images by albumentations, as repeatable as this package's own.

        changes = albumentations.Compose([albumentations.HorizontalFlip(), albumentations.CoarseDropout()])
        batches = data.Batches(splits.train, 10, 64, augmentation=data.Albumentations(changes), shuffle=True)

    An image's changes depend only on `(seed, epoch, index)`, as long as all transforms use the generators that the
    Compose passes to them; albumentations' own do. The Compose's own seed has no effect.

    Args:
        compose: An `albumentations.Compose` (2.0 or newer: `pip install "keras-vision[albumentations]"`) from uint8
            images to uint8 images of the same shape: the networks here scale pixels themselves.
        mixup: As in `AugmentationSpec`.

    Raises:
        InputError: If `compose` is not one, or `mixup` is negative.
    """

    def __init__(self, compose: Any, *, mixup: float = 0.0) -> None:
        if not callable(compose) or not hasattr(compose, "set_random_state"):
            raise InputError(
                "Albumentations takes an albumentations.Compose, of version 2.0 or newer. "
                f"Received: {type(compose).__name__}."
            )
        self.compose: Any = compose
        self.mixup = AugmentationSpec(mixup=mixup).mixup  # The spec checks it.

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises an `InputError` unless the shape is that of 2D images, `(N, H, W, C)`."""
        if len(shape) != 4:
            raise InputError(
                f"Albumentations changes only 2D images, of shape (N, H, W, C). Received: images of shape {shape}."
            )

    def augment(self, images: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """Random versions of images; `augmentation.augment` calls it.

        Args:
            images: uint8 array, shape `(N, H, W, C)`.
            draws: Rows of `draws.uniforms`, one per image.

        Returns:
            Float32 array of the same shape, in `[0, 255]`.

        Raises:
            InputError: If the Compose returns anything but uint8 images of that shape.
        """
        # A Compose holds its generators, so threads cannot share one, and the user's must not change.
        compose = copy.deepcopy(self.compose)
        changed = np.empty(images.shape, np.float32)
        for index, image in enumerate(images):
            seed = int(draws[index, SharedColumns.ALBUMENTATIONS] * 2**53)  # All of its random bits.
            # Not `set_random_seed`: it seeds a generator in every transform alike, so that all of them draw the same
            # numbers, and a horizontal flip never comes without the vertical one (measured with 2.0.8).
            compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
            # A copy: a transform may work in place.
            result = compose(image=image.copy())["image"]
            if getattr(result, "dtype", None) != np.uint8 or result.shape != image.shape:
                raise InputError(
                    "An albumentations.Compose must return uint8 images of its input's shape, so it cannot contain "
                    "a resize, Normalize, ToFloat or ToTensorV2. "
                    f"Received: {_kind(result)} for an image of shape {image.shape}."
                )
            changed[index] = result
        return changed


def _kind(result):
    shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
    return type(result).__name__ if shape is None else f"{dtype} of shape {tuple(shape)}"
