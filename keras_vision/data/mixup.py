"""Mixup: each image and its label become a mixture of two.

The paper's own code takes the second image from the same batch. Here it can be any image of the split, so that a
mixture is a function of `(seed, epoch, index)` and not of the batch size; both images are augmented before they are
mixed, which doubles the cost of augmentation.

Labels such as .7 and .3 have two effects. The training accuracy counts the class with the larger share, so it is low.
And Keras's `class_weight` weights a mixture by that class. With a small `alpha`, when few mixtures are even, that is
nearly the same as weighting each share by its own class. With a larger one, the effective class weights differ less
than the nominal ones: with uniform shares, a rare class gets 3/4 of its weight when mixed with a common one. (The mean
of both classes' weights would make it 2/3.)

Reference:
    Zhang et al. 2018, https://arxiv.org/abs/1710.09412
"""

import numpy as np
from scipy import special

from keras_vision.data.draws import SharedColumns


def shares(alpha: float, draws: np.ndarray) -> np.ndarray:
    """Share of the first image in each mixture, from Beta(alpha, alpha).

    Args:
        alpha: Greater than 0. Small values leave most images nearly unmixed, 1 makes all shares equally likely.
        draws: Rows of `draws.uniforms`, one per mixture.

    Returns:
        Float32 array, shape `(N,)`, in `[0, 1]`.
    """
    return special.betaincinv(alpha, alpha, draws[:, SharedColumns.MIXUP]).astype(np.float32)


def mix(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
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
