"""Selective classification: a classifier that answers only where it is sure enough, and says "unsure" elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import betainc

from keras_vision.evaluation.effective import effective_count, wilson
from keras_vision.evaluation.interval import Interval
from keras_vision.evaluation.resampling import numbered

# Probability, over validation splits, that the error among answered images is what was promised.
CERTAINTY = 0.95
# Share of the validation images that is tested first. benchmarks/selective.py: with the fewest images that can show
# anything, one mistake among them ends the search, on flower_photos in 40 % of splits of 600 images instead of 10 %.
FIRST_SHARE = 0.2
# Where images are in groups each test takes a pass over the images, so there are about as many tests.
GROUPED_TESTS = 500
# Scores of one image differ by 1e-6 or less between machines, numbers of threads and sizes of batches.
SAME_DECIMALS = 5


@dataclass(frozen=True)
class AnswerThreshold:
    """The confidence from which on a classifier answers, as chosen on validation.

    Attributes:
        value: Smallest probability of the predicted class with which an image is answered; 0 where every image is, and
            None where no such promise can be made.
        target_error: The promise: at most this share of the answered images is misclassified.
        images: Number of validation images.
        answered: How many of them are above the threshold; without one, how many the first test was on.
        wrong: How many of these are misclassified.
        needed: How many independent validation images without a mistake would show so low an error.
        groups: Number of groups of the validation images; that of the images where each is independent.
    """

    value: float | None
    target_error: float
    images: int
    answered: int
    wrong: int
    needed: int
    groups: int

    @property
    def reason(self) -> str | None:
        """Why there is no threshold, a sentence; None where there is one."""
        if self.value is not None:
            return None
        promise = f"an error of at most {self.target_error:.3g}"
        if self.groups < self.needed:
            has = f"{self.images:,} images" + (f" in {self.groups:,} groups" if self.groups < self.images else "")
            return (
                f"The validation split has {has}. To promise {promise} at least {self.needed:,} are needed, without a "
                "mistake among the most confident."
            )
        return (
            f"Of the {self.answered:,} most confident validation images {self.wrong:,} are misclassified, which does "
            f"not show {promise}."
        )


@dataclass(frozen=True)
class Selective:
    """What a threshold does on a split.

    Attributes:
        threshold: The threshold.
        answered: Share of the images that are answered, with its 95 % Wilson interval.
        error: Share of these that are misclassified, with its interval; NaN where none is answered.
    """

    threshold: AnswerThreshold
    answered: Interval
    error: Interval

    @property
    def is_broken(self) -> bool:
        """Whether the split shows that the error is above what was promised."""
        return self.threshold.value is not None and self.error.low > self.threshold.target_error

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        chosen = asdict(self.threshold)
        return {
            "threshold": chosen.pop("value"),
            "target_error": chosen.pop("target_error"),
            "certainty": CERTAINTY,
            "reason": self.threshold.reason,
            "validation": chosen,
            "answered": self.answered.to_dict(),
            "error": self.error.to_dict(),
        }


def choose_answer_threshold(
    labels: np.ndarray,
    probabilities: np.ndarray,
    target_error: float,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
) -> AnswerThreshold:
    """The lowest threshold with which the error among answered images is at most the target, with 95 % certainty.

    An image is answered if the probability of its predicted class is at least the threshold. The guarantee: in 95 % of
    validation splits that could have been drawn, of all images like them that are answered at most the target share is
    misclassified. It holds for any classifier and any number of images, if

    - the validation images are independent, are drawn as the images in use will be, and nothing else was chosen on
      them: early stopping and a temperature make it approximate;
    - the error among the images above a threshold does not fall where the threshold is lowered.

    It is about the answered images together, not about each class, and promises nothing of how many are answered.

    How: from a fifth of the images, the most confident ones, on to all of them, each number in turn is tested with the
    exact binomial test of "the error is above the target", at 5 %, until one test does not reject it. As the order is
    fixed, no correction for the number of tests is needed. Each test is of the images above a score that images have:
    given such a score, the mistakes above it are binomial, also where many images have the same score, as in 8-bit
    files. Scores that agree in 5 decimals count as the same. The threshold is the middle between that score and the
    next higher one, so that the last bits of a score, which differ between machines, do not decide.

    With `groups`, images count as the fewer independent ones that they are worth, see `effective_count`; the guarantee
    is approximate.

    Args:
        labels: Int array of the validation split, shape `(N,)`.
        probabilities: Shape `(N, K)`, of the classifier, or file, that will be used.
        target_error: The share, above 0 and below 1.
        groups: The group of each image; None where every image is independent.

    Reference:
        Geifman and El-Yaniv 2017, https://arxiv.org/abs/1705.08500: the guarantee, with a bound for several thresholds;
        Angelopoulos et al. 2021, https://arxiv.org/abs/2110.01052, section 3.1: fixed sequences of tests instead.
    """
    count = len(labels)
    needed = math.ceil(math.log(1 - CERTAINTY) / math.log(1 - target_error))
    confidence, wrong = _confidence(probabilities), probabilities.argmax(axis=1) != labels
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], wrong[order]
    members = None if groups is None else numbered(groups)[order]
    # Above each score, and at last above none: how many images there are, and how many groups they are of.
    ends = np.append(np.flatnonzero(np.diff(np.round(confidence, SAME_DECIMALS))) + 1, count)
    met = np.arange(1, count + 1)
    if members is not None:
        met = np.cumsum(np.isin(np.arange(count), np.unique(members, return_index=True)[1]))
    ends = ends[(ends >= FIRST_SHARE * count) & (met[ends - 1] >= needed)]
    if members is not None:
        ends = ends[:: max(1, len(ends) // GROUPED_TESTS)]
    mistakes = np.concatenate([[0], np.cumsum(wrong)])
    independent = ends if members is None else np.array([effective_count(wrong[:end], members[:end]) for end in ends])
    failed = _p_values(mistakes[ends] / ends, independent, target_error) > 1 - CERTAINTY
    tests = int(failed.argmax()) if failed.any() else len(ends)
    if not tests:
        first = int(ends[0]) if len(ends) else count
        return AnswerThreshold(None, target_error, count, first, int(mistakes[first]), needed, int(met[-1]))
    passed = int(ends[tests - 1])
    value = 0.0 if passed == count else float((confidence[passed - 1] + confidence[passed]) / 2)
    return AnswerThreshold(value, target_error, count, passed, int(mistakes[passed]), needed, int(met[-1]))


def _p_values(shares, counts, target):
    """Probabilities of at most these shares of mistakes among so many images where the error is the target."""
    mistakes = shares * counts
    # The binomial distribution function, also for numbers that are not whole; 1 where all are mistakes.
    return np.where(mistakes < counts, betainc(np.maximum(counts - mistakes, 0.5), mistakes + 1, 1 - target), 1.0)


def judge_selective(
    threshold: AnswerThreshold,
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
) -> Selective:
    """What a threshold does on another split.

    Args:
        threshold: Chosen on validation.
        labels: Int array, shape `(N,)`.
        probabilities: Shape `(N, K)`.
        groups: The group of each image; None where every image is independent.
    """
    members = None if groups is None else numbered(groups)
    wrong = probabilities.argmax(axis=1) != labels
    answered = _confidence(probabilities) >= (math.inf if threshold.value is None else threshold.value)
    return Selective(threshold, _share(answered, members), _share(wrong[answered], _some(members, answered)))


def _confidence(probabilities):
    # A float32 score would be compared with a rounded threshold.
    return np.asarray(probabilities, np.float64).max(axis=1)


def _some(members, chosen):
    return None if members is None else members[chosen]


def _share(hits, members):
    if not len(hits):
        return Interval(math.nan, math.nan, math.nan)
    value = float(np.mean(hits))
    return Interval(value, *wilson(value, effective_count(hits, members)))
