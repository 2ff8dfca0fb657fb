"""Leaks between splits: the same image, exactly or nearly, in two splits.

Found in two steps. First the fingerprints of all pairs, in all 8 flips and quarter turns (`fingerprints.py`): a
likeness of at least .7 makes a candidate. Then the pixels: the two gray images of 64 x 64 are aligned by an affine map
(Evangelidis and Psarakis 2008, https://doi.org/10.1109/TPAMI.2008.113) and compared by the correlation of their
details, with the same local contrast everywhere, so that two hands on black do not match by their outline.
docs/folders.md has the measurements behind the numbers below.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np

from keras_vision.data import fingerprints
from keras_vision.data.rows import Rows
from keras_vision.data.splits import Splits
from keras_vision.files import image_files

CANDIDATE = 0.7
LEAK = 0.85
# A query's candidates are compared from the most similar on, until this many in a row are no leak.
MISSES = 3
SIDE = 64
QUERIES = 64  # Images whose likenesses to all others are in memory at a time.
# Smallest share of an image that the other one has to cover after alignment.
OVERLAP = 0.6


@dataclass(frozen=True)
class Leak:
    """An image that appears in two splits.

    Attributes:
        splits: Names of the two splits.
        rows: Its row in each.
        likeness: Correlation of the details, `LEAK` to 1.
        exact: Whether the pixels are the same.
    """

    splits: tuple[str, str]
    rows: tuple[int, int]
    likeness: float
    exact: bool


def find(splits: Splits) -> list[Leak]:
    """All leaks between the splits of 2D images, the most similar first."""
    leaks = []
    for (first, one), (second, other) in itertools.combinations(splits.named().items(), 2):
        pairs = _pairs(one.images, other.images)
        leaks += [Leak((first, second), rows, likeness, exact) for rows, likeness, exact in pairs]
    return sorted(leaks, key=lambda leak: -leak.likeness)


def prints_of(images: np.ndarray | Rows) -> np.ndarray:
    """Fingerprints of images, from their cache if they have one."""
    kept = images.prints if isinstance(images, Rows) else None
    return fingerprints.fingerprints(images) if kept is None else kept


def _pairs(base, queries):
    """`((row of base, row of queries), likeness, exact)` of all that are near duplicates."""
    length = int(np.prod(fingerprints.SHAPE))
    base_prints = prints_of(base).reshape(len(base), length)
    # Shape (8, N, 64): each query in its 8 turns.
    turned = np.stack([fingerprints.symmetry(prints_of(queries), turn) for turn in range(8)])
    turned = turned.reshape(8, len(queries), length)

    def block(start):
        likeness = _likeness(base_prints, turned[:, start : start + QUERIES])
        return [
            pair
            for query, row in enumerate(likeness, start)
            for pair in _confirmed(base, queries, query, row, base_prints, turned[:, query])
        ]

    with image_files.one_thread_each(), ThreadPoolExecutor() as pool:
        return list(itertools.chain.from_iterable(pool.map(block, range(0, len(queries), QUERIES))))


def _likeness(base_prints, turned):
    """Likeness of each query, in its best turn, to each image, shape `(Q, N)`."""
    best = turned[0] @ base_prints.T
    for prints in turned[1:]:
        np.maximum(best, prints @ base_prints.T, out=best)
    return best


def _confirmed(base, queries, query, likeness, base_prints, turned):
    """Those of one query's candidates whose pixels agree."""
    candidates = np.flatnonzero(likeness >= CANDIDATE)
    if not len(candidates):
        return
    image = queries[query]
    gray, misses = fingerprints.small_gray(image, SIDE), 0
    for row in candidates[np.argsort(-likeness[candidates], kind="stable")]:
        other = base[int(row)]
        exact = np.array_equal(image, other)
        turn = int(np.argmax(turned @ base_prints[row]))
        second = np.ascontiguousarray(image_files.symmetry(gray, turn))
        correlation = 1.0 if exact else agreement(fingerprints.small_gray(other, SIDE), second)
        misses = 0 if correlation >= LEAK else misses + 1
        if correlation >= LEAK:
            yield (int(row), query), correlation, exact
        if misses == MISSES:
            return


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two images' details after an affine map has aligned the second with the first.

    Args:
        first: uint8 array, shape `(64, 64)`.
        second: Likewise, in the turn that matches best.

    Returns:
        A number up to 1; 0 if they cannot be aligned.
    """
    try:
        motion = _aligned(first, second)
    except cv2.error:  # The search does not converge for images that have nothing in common.
        return 0.0
    flags = cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, motion, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.warpAffine(np.ones_like(second), motion, (SIDE, SIDE), flags=flags | cv2.INTER_NEAREST) > 0
    if covered.mean() < OVERLAP:
        return 0.0
    one, other = (_details(image)[covered] for image in (first, moved))
    one, other = one - one.mean(), other - other.mean()
    return min(1.0, float(one @ other / max(1e-6, np.linalg.norm(one) * np.linalg.norm(other))))


def _aligned(first, second):
    """The affine map, shape `(2, 3)`, from the first's coordinates to the second's: coarse, then refined."""
    motion = np.eye(2, 3, dtype=np.float32)
    one, other = (cv2.resize(image, (SIDE // 2,) * 2, interpolation=cv2.INTER_AREA) for image in (first, second))
    motion = _search(one, other, motion, steps=30, epsilon=1e-3)
    return _search(first, second, _doubled(motion), steps=10, epsilon=1e-4)


def _doubled(motion):
    """The same map for images twice as large; coordinates are those of pixel centres, so a zoom also shifts them."""
    shift = 2 * motion[:, 2:] + (1 - motion[:, :2].sum(axis=1, keepdims=True)) / 2
    return np.hstack([motion[:, :2], shift]).astype(np.float32)


def _search(first, second, motion, *, steps, epsilon):
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, steps, epsilon)
    find = cast(Any, cv2.findTransformECC)  # OpenCV's stubs know another version's arguments.
    return find(first, second, motion, cv2.MOTION_AFFINE, criteria, None, 3)[1]


def _details(image):
    """An image minus its blurred version, with equal local contrast; noise of 3 of 255 is not amplified."""
    details = image.astype(np.float32)
    details -= cv2.GaussianBlur(details, (0, 0), 2)
    return details / np.sqrt(cv2.GaussianBlur(details * details, (0, 0), 4) + 9)
