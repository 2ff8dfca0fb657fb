"""Whether two accuracies on different images differ significantly: train and validation, validation and test."""

import math
from dataclasses import dataclass
from typing import Any

from scipy.stats import fisher_exact

from keras_vision.evaluation.effective import wilson

# Stricter than 0.05, because a report makes two such tests.
SIGNIFICANT = 0.01


@dataclass(frozen=True)
class Gap:
    """The difference of two accuracies on different images.

    Attributes:
        first, second: The accuracies.
        difference: The first minus the second.
        low, high: 95 % interval of the difference.
        p: Two-sided p-value of Fisher's exact test; the null hypothesis is that both accuracies are equal.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether `p` is below 0.01."""
        return self.p < SIGNIFICANT


def accuracy_gap(
    correct_first: int,
    count_first: int,
    correct_second: int,
    count_second: int,
    *,
    effective_first: int | None = None,
    effective_second: int | None = None,
) -> Gap:
    """Compares two accuracies.

    Args:
        correct_first: Images classified correctly in the first set.
        count_first: Images in the first set, at least one.
        correct_second, count_second: The same for the second set, which shares no image with the first.
        effective_first, effective_second: How many independent images each set is worth, if its images are in groups,
            see `effective_count`; None where every image is independent.

    Reference:
        Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10: an
        interval from the Wilson intervals of both accuracies.
    """
    first, second = correct_first / count_first, correct_second / count_second
    if effective_first is not None:
        correct_first, count_first = round(first * effective_first), effective_first
    if effective_second is not None:
        correct_second, count_second = round(second * effective_second), effective_second
    table = [[correct_first, count_first - correct_first], [correct_second, count_second - correct_second]]
    fisher: Any = fisher_exact(table)
    (low_first, high_first), (low_second, high_second) = wilson(first, count_first), wilson(second, count_second)
    difference = first - second
    return Gap(
        first=first,
        second=second,
        difference=difference,
        low=float(difference - math.hypot(first - low_first, high_second - second)),
        high=float(difference + math.hypot(high_first - first, second - low_second)),
        p=float(fisher.pvalue),
    )
