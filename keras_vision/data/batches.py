"""Splits as Keras batches, on every backend; order and augmentation are functions of `(seed, epoch, index)`."""

import keras
import numpy as np

from keras_vision.data import mixup
from keras_vision.data.augmentation import augment
from keras_vision.data.draws import Purpose, generator, uniforms


class Batches(keras.utils.PyDataset):
    """Batches of a split: images as float32 in `[0, 255]`, labels one-hot, or shares of two classes after mixup.

    The split stays uint8 in memory (or on disk, when it is memory-mapped); only a batch at a time is float.

    Args:
        split: A `Split`.
        num_classes: Length of the one-hot labels.
        batch_size: Images a batch; the last batch of an epoch may be smaller.
        augmentation: A `recipe.AugmentationSpec`, an `Albumentations`, or None for the images as they are.
        shuffle: Whether each epoch has its own order.
        seed: Seed of order and augmentation.

    Raises:
        InputError: If the augmentation asks for what images of this shape cannot have.
    """

    def __init__(self, split, num_classes, batch_size, *, augmentation=None, shuffle=False, seed=0):
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

    def start_epoch(self, epoch):
        """Draws the order and the random numbers of an epoch; any epoch can be started at any time."""
        count = len(self.split)
        self._order = (
            generator(self.seed, Purpose.ORDER, epoch).permutation(count) if self.shuffle else np.arange(count)
        )
        if self.augmentation is not None:
            alternate = getattr(self.augmentation, "alternate_flips", False)
            self._draws = uniforms(self.seed, epoch, count, alternate_flips=alternate)
            # A permutation, so that every image is a partner once.
            self._partners = (
                generator(self.seed, Purpose.PARTNERS, epoch).permutation(count) if self.augmentation.mixup else None
            )

    def __len__(self):
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, index):
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        if self.augmentation is None:
            return self.split.images[rows].astype(np.float32), self._labels(rows)
        if self._partners is None:
            return self._augmented(rows), self._labels(rows)
        pairs = np.concatenate([rows, self._partners[rows]])
        shares = mixup.shares(self.augmentation.mixup, self._draws[rows])
        return mixup.mix(self._augmented(pairs), shares), mixup.mix(self._labels(pairs), shares)

    def _augmented(self, rows):
        return augment(self.split.images[rows], self.augmentation, self._draws[rows])

    def _labels(self, rows):
        return self._one_hot[self.split.labels[rows]]
