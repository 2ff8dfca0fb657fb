"""Splits as Keras batches, on every backend; order and augmentation are functions of `(seed, epoch, index)`."""

import keras
import numpy as np

from keras_vision.data.augmentation import augment, uniforms


class Batches(keras.utils.PyDataset):
    """Batches of a split: images as float32 in `[0, 255]`, labels one-hot.

    The split stays uint8 in memory (or on disk, when it is memory-mapped); only a batch at a time is float.

    Args:
        split: A `Split`.
        num_classes: Length of the one-hot labels.
        batch_size: Images a batch; the last batch of an epoch may be smaller.
        augmentation: A `recipe.AugmentationSpec`, or None for the images as they are.
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
        key = np.random.SeedSequence(self.seed, spawn_key=(1, epoch))
        order = np.random.Generator(np.random.Philox(key)).permutation
        self._order = order(len(self.split)) if self.shuffle else np.arange(len(self.split))
        self._draws = uniforms(self.seed, epoch, len(self.split)) if self.augmentation else None

    def __len__(self):
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, index):
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        images = self.split.images[rows]
        if self.augmentation is None or self._draws is None:
            images = images.astype(np.float32)
        else:
            images = augment(images, self.augmentation, self._draws[rows])
        return images, self._one_hot[self.split.labels[rows]]
