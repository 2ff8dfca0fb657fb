"""Mixup: each image and its label become a mixture of two.

The paper's own code finds the second image in the same batch. Here it may be any of the split, so that a mixture is a
function of `(seed, epoch, index)` and not of the batch size; both images are augmented before they are mixed, which
doubles the cost of augmentation.

Two things follow from labels such as .7 and .3. The training accuracy counts the class with the larger share, so it
reads low. And Keras's `class_weight` weighs a mixture by that class too. That is nearly the same as weighing each share
by its own class where `alpha` is small and few mixtures are even; where it is not, the classes' weights differ less in
effect than they say: with shares drawn evenly, a rare class gets 3/4 of its weight when it meets a common one. (The
mean of both classes' weights would make it 2/3.)

Reference:
    Zhang et al. 2018, https://arxiv.org/abs/1710.09412
"""

import numpy as np
from scipy import special

from keras_vision.data.draws import SharedColumns


def shares(alpha, draws):
    """How much of each mixture is its first image, from Beta(alpha, alpha).

    Args:
        alpha: Greater than 0. Small values leave most images nearly alone, 1 makes all shares as likely.
        draws: Rows of `augmentation.uniforms`, one a mixture.

    Returns:
        Float32 array, shape `(N,)`, in `[0, 1]`.
    """
    return special.betaincinv(alpha, alpha, draws[:, SharedColumns.MIXUP]).astype(np.float32)


def mix(values, shares):
    """Mixtures of the first half of an array with its second half.

    Args:
        values: Float32 array, shape `(2 * N, ...)`, images or one-hot labels; it is overwritten.
        shares: Float32 array, shape `(N,)`.

    Returns:
        Float32 array, shape `(N, ...)`.
    """
    firsts, seconds = np.split(values, 2)
    firsts -= seconds
    firsts *= shares.reshape(-1, *[1] * (values.ndim - 1))
    firsts += seconds
    return firsts
