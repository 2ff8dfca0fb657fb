"""Is one classifier better than another on the same images, by more than chance?"""

import numpy as np
from scipy.stats import binomtest


def mcnemar(right_first: np.ndarray, right_second: np.ndarray) -> tuple[int, int, float]:
    """McNemar's exact test on two classifiers' predictions for the same images.

    Args:
        right_first: Bool array, shape `(N,)`: which images the first classifier classified correctly.
        right_second: The same for the second.

    Returns:
        `(only_first, only_second, p)`: images that only the first, or only the second, classified correctly, and the
        two-sided p of such a split between equally accurate classifiers.

    Reference:
        McNemar 1947, https://doi.org/10.1007/BF02295996; exact binomial form.
    """
    only_first = int(np.sum(right_first & ~right_second))
    only_second = int(np.sum(~right_first & right_second))
    if only_first + only_second == 0:
        return 0, 0, 1.0
    return only_first, only_second, float(binomtest(only_first, only_first + only_second).pvalue)
