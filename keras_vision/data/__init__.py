"""Images and labels from files, names and seeds; augmentation; batches."""

from keras_vision.data.albumentations_adapter import Albumentations
from keras_vision.data.augmentation import augment
from keras_vision.data.batches import Batches
from keras_vision.data.glance import Glance, glance
from keras_vision.data.slow_images import SlowImages
from keras_vision.data.sources import load_splits
from keras_vision.data.splits import Source, Split, Splits

__all__ = [
    "Albumentations",
    "Batches",
    "Glance",
    "SlowImages",
    "Source",
    "Split",
    "Splits",
    "augment",
    "glance",
    "load_splits",
]
