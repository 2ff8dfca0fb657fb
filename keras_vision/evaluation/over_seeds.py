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


def paired_difference(first: Sequence[float], second: Sequence[float]) -> tuple[Interval, float]:
    """How much better the first of two settings is, seed by seed: the paired t test.

    Args:
        first: A metric of the first setting's runs.
        second: The same of the second's, with the same seeds in the same order.

    Returns:
        The mean difference with its 95 % interval, and the two-sided p-value: NaN for a single seed, and for
        differences that are all the same.
    """
    differences = np.subtract(first, second)
    found = mean_interval(differences)
    if len(differences) < 2 or np.ptp(differences) < _ROUNDING:
        return found, math.nan
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return found, float(2 * stats.t.sf(abs(found.value / error), len(differences) - 1))
