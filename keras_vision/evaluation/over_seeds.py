"""A metric over several seeds: its mean with a t interval, and the paired comparison of two settings."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from keras_vision.evaluation.interval import Interval

# Differences that vary less than this are equal but for rounding.
_ROUNDING = 1e-12


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Mean and 95 % interval of a metric over training runs that differ by their seed alone.

    Student's t: it covers how much trainings vary, not the choice of the images that they were judged on.

    Args:
        values: The metric of each run; one run has no interval.
    """
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half)


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, folds: int | None = None
) -> tuple[Interval, float]:
    """How much better the first of two settings is, seed by seed or fold by fold: the paired t test.

    The folds of cross-validation share most of their training images, so their differences are no independent draws;
    with `folds` the variance is corrected for that: Nadeau and Bengio 2003,
    https://doi.org/10.1023/A:1024068626366, equation 9.

    Args:
        first: A metric of the first setting's runs.
        second: The same of the second's, with the same seeds or folds in the same order.
        folds: Number of folds that the data was divided into; None for runs that differ by their seed.

    Returns:
        The mean difference with its 95 % interval, and the two-sided p-value: NaN for a single seed, and for
        differences that are all the same.
    """
    differences = np.subtract(first, second)
    found = mean_interval(differences)
    if len(differences) < 2 or np.ptp(differences) < _ROUNDING:
        return found, math.nan
    independent = 1 / len(differences)
    # A fold's test images by its training images are 1 / (folds - 1).
    overlap = 0.0 if folds is None else 1 / (folds - 1)
    error = differences.std(ddof=1) * math.sqrt(independent + overlap)
    half = stats.t.ppf(0.975, len(differences) - 1) * error
    found = Interval(found.value, float(found.value - half), float(found.value + half))
    return found, float(2 * stats.t.sf(abs(found.value / error), len(differences) - 1))
