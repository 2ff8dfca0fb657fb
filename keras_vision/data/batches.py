"""Splits as Keras batches, on every backend; order and augmentation are functions of `(seed, epoch, index)`."""

import keras
import numpy as np

from keras_vision.data import mixup
from keras_vision.data.albumentations_adapter import Albumentations
from keras_vision.data.augmentation import augment
from keras_vision.data.draws import Purpose, generator, uniforms
from keras_vision.data.splits import Split
from keras_vision.recipe import AugmentationSpec


class Batches(keras.utils.PyDataset):
    """Batches of a split: images as float32 in `[0, 255]`, labels one-hot, or shares of two classes with mixup.

    Several labels an image are given as they are, 0 or 1 each.

    The split stays uint8 in memory (or on disk, when it is memory-mapped); only one batch at a time is float.

    Args:
        split: Images and labels.
        num_classes: Length of the one-hot labels.
        batch_size: Images per batch; the last batch of an epoch may be smaller.
        augmentation: Random changes; None for unchanged images.
        shuffle: Whether each epoch has its own order.
        seed: Seed of order and augmentation.

    Raises:
        InputError: If the augmentation does not suit images of this shape.
    """

    def __init__(
        self,
        split: Split,
        num_classes: int,
        batch_size: int,
        *,
        augmentation: AugmentationSpec | Albumentations | None = None,
        shuffle: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if augmentation is not None:
            augmentation.check_shape(split.images.shape)
        self.split = split
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.shuffle = shuffle
        self.seed = seed
        self._one_hot = np.eye(num_classes, dtype=np.float32)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Computes the order and the random numbers of an epoch; any epoch can be started at any time."""
        count = len(self.split)
        self._order = self._permutation(Purpose.ORDER, epoch) if self.shuffle else np.arange(count)
        if self.augmentation is not None:
            alternate = getattr(self.augmentation, "alternate_flips", False)
            self._draws = uniforms(self.seed, epoch, count, alternate_flips=alternate)
            # A permutation, so that every image is a partner once.
            self._partners = self._permutation(Purpose.PARTNERS, epoch) if self.augmentation.mixup else None

    def _permutation(self, purpose, epoch):
        return generator(self.seed, purpose, epoch).permutation(len(self.split))

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._batch(self._order[index * self.batch_size : (index + 1) * self.batch_size])

    def share(self, index: int, number: int, of: int) -> tuple[np.ndarray, np.ndarray]:
        """One of so many equal parts of a batch, made without the other parts.

        Args:
            index: Number of the batch.
            number: Number of the part, from 0.
            of: How many parts; they divide the batch.
        """
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        size = len(rows) // of
        return self._batch(rows[number * size : (number + 1) * size])

    def _batch(self, rows):
        augmentation = self.augmentation
        if augmentation is None:
            return self.split.images[rows].astype(np.float32), self._labels(rows)
        if self._partners is None:
            return self._augmented(augmentation, rows), self._labels(rows)
        pairs = np.concatenate([rows, self._partners[rows]])
        shares = mixup.shares(augmentation.mixup, self._draws[rows])
        return mixup.mix(self._augmented(augmentation, pairs), shares), mixup.mix(self._labels(pairs), shares)

    def _augmented(self, augmentation, rows):
        return augment(self.split.images[rows], augmentation, self._draws[rows])

    def _labels(self, rows):
        labels = self.split.labels[rows]
        return labels.astype(np.float32) if labels.ndim == 2 else self._one_hot[labels]
