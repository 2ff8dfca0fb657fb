"""Both ends of a backbone: pictures resized in front of it, and the head behind."""

import keras
from keras import layers


def resized_shape(spec, image_shape):
    """Shape of the pictures that the backbone gets: `(input_size, input_size, C)` where the spec has an input size."""
    if spec.input_size and len(image_shape) == 3:  # Volumes stay what they are, and are refused as such.
        return (spec.input_size, spec.input_size, image_shape[-1])
    return tuple(image_shape)


def scaled(images, scale, offset=0.0):
    """Pixels times `scale` plus `offset`.

    In float32 whatever the network computes in: half precision would round the scale and move white by a gray level.
    """
    return layers.Rescaling(scale, offset, dtype="float32", name="rescaling")(images)


def resized(x, spec):
    """Pictures at the spec's input size, as they are where they have it.

    Behind the scaling of pixels rather than before it, so that an integer file rounds pixels once.
    """
    if tuple(x.shape[1:3]) == resized_shape(spec, x.shape[1:])[:2]:
        return x
    return layers.Resizing(spec.input_size, spec.input_size, name="resizing")(x)


def with_head(name, images, x, spec, num_classes):
    """The network from pictures to logits: Dense with ReLU and Dropout where the spec asks for them, then the logits.

    Args:
        images: The network's input.
        x: Features, shape `(N, channels)`.
        spec: A `recipe.ModelSpec`; `head_units`, `head_dropout` and `dropout_scale` are read.
    """
    if spec.head_units:
        x = layers.Dense(spec.head_units, activation="relu", name="hidden")(x)
    if spec.head_dropout:
        x = layers.Dropout(spec.dropout(spec.head_dropout), name="dropout")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="logits")(x), name=name)
