"""Several networks as one, whose probabilities are the mean of theirs.

Source: Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474, section 2.4.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

SMALLEST = 1e-30  # Of a probability, before its logarithm.


def averaged(members: Sequence[keras.Model]) -> keras.Model:
    """A network of the members, from images to the logarithms of their mean probabilities.

    Args:
        members: At least two `keras.Model`s from images of one shape to logits, shape `(N, K)`; their layers are
            shared, not copied.
    """
    images = keras.Input(members[0].input_shape[1:], name="images")
    scores = []
    for number, member in enumerate(members):
        # Networks inside another one need names of their own.
        renamed: Any = keras.Model(member.input, member.output, name=f"member{number}")
        scores.append(layers.Softmax(name=f"scores{number}")(renamed(images)))
    mean = layers.Average(name="mean")(scores)
    return keras.Model(images, ops.log(ops.maximum(mean, SMALLEST)), name="ensemble")
