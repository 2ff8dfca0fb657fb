"""Bootstrap resamples: how many times each image counts, drawn by image, or by group where images belong together.

Images of one patient are nearly the same, so ten of them tell little more than one, and intervals over images alone are
too narrow.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np

_CHUNK = 50  # Resamples at once,
_WEIGHTS = 5_000_000  # fewer where they have more weights than this, in a few arrays of 8 bytes.


def numbered(groups: Sequence[str] | np.ndarray) -> np.ndarray:
    """The number of each image's group, counted from 0 in the order in which groups first appear, shape `(N,)`."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in groups], np.int64)


def resampled_weights(count: int, resamples: int, seed: int, members: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """How many times each image counts in each resample, in chunks of resamples, shape `(B, N)`.

    Args:
        count: N.
        resamples: Number of resamples in total.
        members: The number of each image's group, see `numbered`: whole groups are drawn. None draws single images.

    Reference:
        Field and Welsh 2007, https://doi.org/10.1111/j.1467-9868.2007.00593.x: the cluster bootstrap.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = count if members is None else int(members.max()) + 1
    chunk = max(1, min(_CHUNK, _WEIGHTS // count))
    for start in range(0, resamples, chunk):
        times = rng.multinomial(drawn, np.full(drawn, 1 / drawn), size=min(chunk, resamples - start)).astype(float)
        yield times if members is None else times[:, members]


def resampled(
    metrics: Callable[[np.ndarray], dict[str, np.ndarray]],
    count: int,
    resamples: int,
    seed: int,
    members: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Metrics of resamples.

    Args:
        metrics: Function from weights of shape `(B, N)` to arrays of shape `(B, ...)` by name.
        count, resamples, seed, members: See `resampled_weights`.

    Returns:
        `{name: array of shape (resamples, ...)}`.
    """
    parts = [metrics(weights) for weights in resampled_weights(count, resamples, seed, members)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def quantiles(samples: np.ndarray) -> np.ndarray:
    """The 2.5 % and 97.5 % quantiles over the first axis; resamples where the metric is NaN are left out."""
    with warnings.catch_warnings():
        # A class that is in no resample has the interval NaN to NaN.
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return np.nanquantile(samples, [0.025, 0.975], axis=0)
