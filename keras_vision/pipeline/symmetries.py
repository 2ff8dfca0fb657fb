"""Flips and turns of images and volumes that keep their class, and the mean of the predictions over them.

They move whole pixels and interpolate nothing. NumPy and the recipe only, since `predict` of a .tflite file imports it.

Reference:
    Simonyan and Zisserman 2015, section 3.2, https://arxiv.org/abs/1409.1556: scores averaged over flips.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_vision.recipe import TTA, AugmentationSpec, InputError

NAMED = tuple(name for name in TTA if name not in ("none", "auto"))
FULL_CIRCLE = 180.0  # Degrees either way.


@dataclass(frozen=True)
class Symmetry:
    """Axes of an image in another order, some of which are then reversed.

    Attributes:
        order: Of the axes, those of the batch and the channels not counted.
        reversed: Whether each axis is then reversed.
    """

    order: tuple[int, ...]
    reversed: tuple[bool, ...]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Changed images, of shape `(N, ..., C)`, contiguous in memory."""
        last = images.ndim - 1
        moved = images.transpose(0, *(axis + 1 for axis in self.order), last)
        flipped = tuple(axis + 1 for axis, is_on in enumerate(self.reversed) if is_on)
        return np.ascontiguousarray(np.flip(moved, flipped))

    def then(self, other: "Symmetry") -> "Symmetry":
        """Both, one after the other."""
        return Symmetry(
            tuple(self.order[axis] for axis in other.order),
            tuple(self.reversed[axis] != is_on for axis, is_on in zip(other.order, other.reversed, strict=True)),
        )

    @property
    def mirrors(self) -> bool:
        """Whether it gives a mirror image, which no turn does."""
        return round(np.linalg.det(np.eye(len(self.order))[list(self.order)])) * (-1) ** sum(self.reversed) < 0


def plain(image_shape: Sequence[int]) -> tuple[Symmetry, ...]:
    """The one that changes nothing, alone."""
    return _group((), False, image_shape)


def named(tta: str, image_shape: Sequence[int]) -> tuple[Symmetry, ...]:
    """The symmetries of a name: those that keep an image's shape.

    Args:
        tta: One of `NAMED`.
        image_shape: `(H, W, C)`, or `(D, H, W, C)` of volumes.

    Returns:
        All that the named flips and turns give together, the one that changes nothing first.
    """
    axes = range(len(image_shape) - 1)
    flipped = {"flip": axes[-1:], "flips": axes, "turns": (), "all": axes}[tta]
    return _group(flipped, tta in ("turns", "all"), image_shape)


def of_augmentation(spec: AugmentationSpec, image_shape: Sequence[int]) -> tuple[Symmetry, ...]:
    """The symmetries that an augmentation has, switched on or not, see `named`.

    A rotation range counts if it is the whole circle: with a smaller one no image is ever upside down.

    Raises:
        InputError: If there are none.
    """
    flips = (spec.depth_flip, spec.vertical_flip, spec.horizontal_flip)[-(len(image_shape) - 1) :]
    flipped = [axis for axis, is_on in enumerate(flips) if is_on]
    turns = spec.rotate90 or spec.rotate_cube or spec.rotation_range >= FULL_CIRCLE
    if not flipped and not turns:
        raise InputError(
            "--tta auto takes flips and turns from the recipe's augmentation, which has none. If some keep every "
            f"class, name them: --tta {', '.join(NAMED)}."
        )
    return _group(flipped, turns, image_shape)


def chosen(tta: str, spec: AugmentationSpec, image_shape: Sequence[int]) -> tuple[Symmetry, ...]:
    """The symmetries of a recipe's `tta`: by name, or for `auto` those of its augmentation.

    Raises:
        InputError: If the augmentation has none.
    """
    return of_augmentation(spec, image_shape) if tta == "auto" else named(tta, image_shape)


def _group(flipped, turns, image_shape):
    """Everything that flips of these axes, and quarter turns, give one after the other, if it keeps the shape."""
    sides = tuple(image_shape[:-1])
    count = len(sides)
    plain = Symmetry(tuple(range(count)), (False,) * count)
    generators = [Symmetry(plain.order, tuple(axis == one for axis in range(count))) for one in flipped]
    for axis in range(count - 1) if turns else ():
        order = [*range(count)]
        order[axis : axis + 2] = axis + 1, axis
        generators.append(Symmetry(tuple(order), tuple(one == axis for one in range(count))))
    found = [plain]
    for one in found:  # It grows in the loop, until nothing new comes.
        found += [new for new in map(one.then, generators) if new not in found]
    return tuple(one for one in found if tuple(sides[axis] for axis in one.order) == sides)


def mean(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, symmetries: Sequence[Symmetry]) -> np.ndarray:
    """The mean of the probabilities of images and their changed versions.

    Args:
        predict: Function from images to probabilities, shape `(N, K)`.
        images: Shape `(N, ..., C)`.
        symmetries: Of `named` or `of_augmentation`.
    """
    return np.mean([predict(one(images)).astype(np.float64) for one in symmetries], axis=0)


def words(symmetries: Sequence[Symmetry]) -> str:
    """How many versions of an image there are and which, such as `2 versions of each image (itself, 1 mirrored)`."""
    mirrored = sum(one.mirrors for one in symmetries)
    turned = len(symmetries) - 1 - mirrored
    kinds = ["itself", *[f"{turned} turned"] * (turned > 0), *[f"{mirrored} mirrored"] * (mirrored > 0)]
    return f"{len(symmetries)} versions of each image ({', '.join(kinds)})"
