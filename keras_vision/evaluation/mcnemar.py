"""McNemar's test: whether one classifier is significantly better than another on the same images."""

import numpy as np
from scipy.stats import binomtest


def mcnemar(right_first: np.ndarray, right_second: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test on two classifiers' predictions for the same images.

    Args:
        right_first: Bool array, shape `(N,)`: True where the first classifier is correct.
        right_second: The same for the second.

    Returns:
        `(only_first, only_second, p)`: the number of images that only the first, or only the second, classifies
        correctly, and the two-sided p-value; the null hypothesis is that both are equally accurate.

    Reference:
        McNemar 1947, https://doi.org/10.1007/BF02295996; exact binomial form.
    """
    only_first = int(np.sum(right_first & ~right_second))
    only_second = int(np.sum(~right_first & right_second))
    if only_first + only_second == 0:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second).pvalue)
