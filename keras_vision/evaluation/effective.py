"""How many independent images as many images in groups are worth, for intervals and tests of shares."""

import math

import numpy as np

_NORMAL = 1.959964  # The 97.5 % quantile of the normal distribution.


def effective_count(hits: np.ndarray, members: np.ndarray | None) -> int:
    """The number of independent images whose share of hits would vary as much.

    Args:
        hits: Bool array, shape `(N,)`.
        members: The number of each image's group, counted from 0; None where every image is independent.

    Returns:
        At most N; the number of groups where all images are hits or none is, because nothing shows how alike they are.

    Reference:
        Rao and Scott 1992, https://doi.org/10.2307/2532311: counts are divided by the design effect, the variance over
        groups by that of independent images.
    """
    count, share = len(hits), float(np.mean(hits))
    if members is None:
        return count
    groups = len(np.unique(members))
    if groups < 2 or share in (0.0, 1.0):
        return groups
    variance = groups / (groups - 1) * float(np.sum(np.bincount(members, hits - share) ** 2)) / count**2
    independent = share * (1 - share) / (count - 1)
    return count if variance <= independent else max(1, round(count * independent / variance))


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share of so many independent images, also where that is no whole number of them.

    Reference:
        Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    spread = _NORMAL**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    # Exactly 0 and 1 at the ends, whatever is lost by rounding.
    return 0.0 if share == 0 else max(0.0, middle - half), 1.0 if share == 1 else min(1.0, middle + half)
