"""Leaks between splits: the same picture, or nearly the same, to learn from and to be judged by.

Found in two looks. First the fingerprints of all pairs, in all 8 flips and quarter turns (`fingerprints.py`): likeness
of at least .7 makes a candidate. Then the pixels: the two gray pictures of 64 x 64 are brought over one another by an
affine map (Evangelidis and Psarakis 2008, https://doi.org/10.1109/TPAMI.2008.113), and what counts is the correlation
of their details, with the same local contrast everywhere, so that two hands on black are not alike for their outline.
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
from keras_vision.files import image_files

CANDIDATE = 0.7
LEAK = 0.85
# A query's candidates are looked at from the likest on, until so many in a row were none.
MISSES = 3
SIDE = 64
QUERIES = 64  # Pictures whose likenesses to all others are in memory at a time.
# The part of a picture that has to lie under the other one.
OVERLAP = 0.6


@dataclass(frozen=True)
class Leak:
    """A picture that stands in two splits.

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


def find(splits):
    """All leaks between the splits of some pictures, the likest first.

    Args:
        splits: `Splits` of pictures.

    Returns:
        List of `Leak`s.
    """
    found = []
    for (first, one), (second, other) in itertools.combinations(splits.named().items(), 2):
        pairs = _pairs(one.images, other.images)
        found += [Leak((first, second), rows, likeness, exact) for rows, likeness, exact in pairs]
    return sorted(found, key=lambda leak: -leak.likeness)


def prints_of(images):
    """Fingerprints of images: those that a cache has, or new ones."""
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
    """Likeness of each query, in its best turn, to each picture, shape `(Q, N)`."""
    best = turned[0] @ base_prints.T
    for prints in turned[1:]:
        np.maximum(best, prints @ base_prints.T, out=best)
    return best


def _confirmed(base, queries, query, likeness, base_prints, turned):
    """Of one query's candidates those whose pixels agree."""
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
        found = 1.0 if exact else agreement(fingerprints.small_gray(other, SIDE), second)
        misses = 0 if found >= LEAK else misses + 1
        if found >= LEAK:
            yield (int(row), query), found, exact
        if misses == MISSES:
            return


def agreement(first, second):
    """Correlation of two pictures' details after an affine map has brought the second over the first.

    Args:
        first: uint8 array, shape `(64, 64)`.
        second: Likewise, turned so that it may fit.

    Returns:
        A number up to 1; 0 where nothing brings one over the other.
    """
    try:
        motion = _aligned(first, second)
    except cv2.error:  # The search came to no end, as it does for pictures that have nothing in common.
        return 0.0
    flags = cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, motion, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.warpAffine(np.ones_like(second), motion, (SIDE, SIDE), flags=flags | cv2.INTER_NEAREST) > 0
    if covered.mean() < OVERLAP:
        return 0.0
    one, other = (_details(picture)[covered] for picture in (first, moved))
    one, other = one - one.mean(), other - other.mean()
    return min(1.0, float(one @ other / max(1e-6, np.linalg.norm(one) * np.linalg.norm(other))))


def _aligned(first, second):
    """The affine map, shape `(2, 3)`, from places of the first to places of the second: found small, then mended."""
    motion = np.eye(2, 3, dtype=np.float32)
    one, other = (cv2.resize(picture, (SIDE // 2,) * 2, interpolation=cv2.INTER_AREA) for picture in (first, second))
    motion = _search(one, other, motion, steps=30, epsilon=1e-3)
    return _search(first, second, _doubled(motion), steps=10, epsilon=1e-4)


def _doubled(motion):
    """The same map for pictures twice as large; pixels are counted from their middles, so a zoom shifts them, too."""
    shift = 2 * motion[:, 2:] + (1 - motion[:, :2].sum(axis=1, keepdims=True)) / 2
    return np.hstack([motion[:, :2], shift]).astype(np.float32)


def _search(first, second, motion, *, steps, epsilon):
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, steps, epsilon)
    find = cast(Any, cv2.findTransformECC)  # OpenCV's stubs know another version's arguments.
    return find(first, second, motion, cv2.MOTION_AFFINE, criteria, None, 3)[1]


def _details(picture):
    """A picture less its blurred self, with the same contrast everywhere; noise of 3 of 255 is not blown up."""
    details = picture.astype(np.float32)
    details -= cv2.GaussianBlur(details, (0, 0), 2)
    return details / np.sqrt(cv2.GaussianBlur(details * details, (0, 0), 4) + 9)
