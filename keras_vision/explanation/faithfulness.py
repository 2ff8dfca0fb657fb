"""Faithfulness of heatmaps: how the prediction changes when the pixels that they highlight change.

The model is a function from images to probabilities, so Keras models and .tflite files are handled alike. Compare every
metric with that of `random_heatmaps`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from scipy import ndimage, sparse, stats
from scipy.sparse.linalg import cg, spsolve

BLUR = 0.18  # Standard deviation of insertion's initial blur, as a share of the side: RISE's 40 of 224 pixels.
ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)
ROAD_NOISE = 0.01 * 255
IMPUTATION_TOLERANCE = 1e-3  # For volumes: at most .6 of 255 from the exact solution, below the noise of 2.5.


@dataclass(frozen=True)
class Faithfulness:
    """Metrics of one method's heatmaps, means over the images.

    Attributes:
        insertion: Area under the curve of the target class's probability while a blurred image is restored, hottest
            pixels first; higher is better.
        deletion: The same while the hottest pixels are removed first; lower is better.
        road: How much lower the probability is with the hottest pixels imputed than with the coldest; higher is better,
            about 0 for random heatmaps.
        after_shuffling: Rank correlation with the heatmaps of the same network with shuffled weights; lower is better.
            None if not measured.
    """

    insertion: float
    deletion: float
    road: float
    after_shuffling: float | None = None


def judge_heatmaps(
    probabilities: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    heatmaps: np.ndarray,
    target_classes: np.ndarray,
    *,
    shuffled: np.ndarray | None = None,
    steps: int = 16,
    seed: int = 0,
) -> Faithfulness:
    """Measures the faithfulness of heatmaps.

    Args:
        probabilities: Function from images `(M, *spatial, C)`, float32 in `[0, 255]`, to probabilities `(M, K)`.
        images: In `[0, 255]`, shape `(N, *spatial, C)`.
        heatmaps: Shape `(N, *spatial)`.
        target_classes: Int array, shape `(N,)`: the explained classes.
        shuffled: Heatmaps of the same images by the same method with shuffled weights, see `weights_shuffled`.
        steps: Number of steps in which the pixels are replaced.
        seed: Seed of ROAD's noise.

    Returns:
        A `Faithfulness`.
    """
    images = np.asarray(images, np.float32)
    return Faithfulness(
        insertion=float(insertion_curve(probabilities, images, heatmaps, target_classes, steps).mean()),
        deletion=float(deletion_curve(probabilities, images, heatmaps, target_classes, steps).mean()),
        road=road(probabilities, images, heatmaps, target_classes, seed=seed),
        after_shuffling=None if shuffled is None else rank_correlation(heatmaps, shuffled),
    )


def insertion_curve(
    probabilities: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    heatmaps: np.ndarray,
    target_classes: np.ndarray,
    steps: int = 16,
) -> np.ndarray:
    """The target class's probability while a blurred image is restored, hottest pixels first.

    Returns:
        Float array, shape `(N, steps + 1)`; its mean is about the area under the curve.

    Reference:
        Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421.
    """
    sigma = [0, *(BLUR * side for side in images.shape[1:-1]), 0]
    return _curve(probabilities, ndimage.gaussian_filter(images, sigma), images, heatmaps, target_classes, steps)


def deletion_curve(
    probabilities: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    heatmaps: np.ndarray,
    target_classes: np.ndarray,
    steps: int = 16,
) -> np.ndarray:
    """The target class's probability while pixels are replaced by the image's mean colour, hottest pixels first.

    Returns:
        Float array, shape `(N, steps + 1)`.

    Reference:
        Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421.
    """
    spatial = tuple(range(1, images.ndim - 1))
    plain = np.broadcast_to(images.mean(axis=spatial, keepdims=True), images.shape)
    return _curve(probabilities, images, plain, heatmaps, target_classes, steps)


def _curve(probabilities, start, end, heatmaps, target_classes, steps):
    """The target's probability while pixels of `start` are replaced by those of `end`, hottest first."""
    ranks = hottest_first(heatmaps)
    rows = np.arange(len(start))
    curve = []
    for share in np.linspace(0, 1, steps + 1):
        replaced = (ranks < share)[..., np.newaxis]
        curve.append(probabilities(np.where(replaced, end, start))[rows, target_classes])
    return np.stack(curve, axis=1)


def hottest_first(heatmaps: np.ndarray) -> np.ndarray:
    """Relative rank of each pixel in its heatmap, in `[0, 1)`; 0 is the hottest."""
    flat = np.reshape(heatmaps, (len(heatmaps), -1))
    order = np.argsort(-flat, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(flat.shape[1])[np.newaxis], axis=1)
    return (ranks / flat.shape[1]).reshape(np.shape(heatmaps))


def road(
    probabilities: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    heatmaps: np.ndarray,
    target_classes: np.ndarray,
    *,
    shares: Sequence[float] = ROAD_SHARES,
    seed: int = 0,
) -> float:
    """ROAD: removes pixels by noisy linear imputation, so that the outline of the removed part does not leak the class.

    Returns:
        Mean over images and shares of the probability without the coldest pixels minus that without the hottest.

    Reference:
        Rong et al. 2022, https://arxiv.org/abs/2202.00449.
    """
    ranks = hottest_first(heatmaps)
    rows, rng = np.arange(len(images)), np.random.Generator(np.random.Philox(seed))
    gaps = []
    for share in shares:
        without_coldest, without_hottest = (
            probabilities(_imputed(images, removed, rng))[rows, target_classes]
            for removed in (ranks >= 1 - share, ranks < share)
        )
        gaps.append(without_coldest - without_hottest)
    return float(np.mean(gaps))


def _imputed(images, removed, rng):
    return np.stack([impute(image, mask, rng) for image, mask in zip(images, removed, strict=True)])


def impute(image: np.ndarray, removed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replaces removed pixels by the mean of their neighbours, which may be removed too, plus a little noise.

    Args:
        image: Float array in `[0, 255]`, shape `(*spatial, C)`.
        removed: Bool array, shape `spatial`.
        rng: Generator of the noise.

    Returns:
        Float32 array, clipped to `[0, 255]`, shape `(*spatial, C)`.
    """
    if not removed.any():
        return np.array(image, np.float32)
    numbers = np.cumsum(removed).reshape(removed.shape) - 1
    count = int(removed.sum())
    known = np.zeros((count, image.shape[-1]))
    rows, columns, weights, total = [], [], [], np.zeros(count)
    for offset in _neighbours(removed.ndim):
        # Diagonal neighbours count half, as in the paper.
        weight = 1.0 if sum(map(abs, offset)) == 1 else 0.5
        inside, other = _shifted(removed.shape, offset)
        here = removed[inside]
        total += np.bincount(numbers[inside][here], minlength=count) * weight
        unknown = here & removed[other]
        rows.append(numbers[inside][unknown])
        columns.append(numbers[other][unknown])
        weights.append(np.full(unknown.sum(), -weight))
        kept = here & ~removed[other]
        np.add.at(known, numbers[inside][kept], weight * image[other][kept])
    rows.append(np.arange(count))
    columns.append(np.arange(count))
    weights.append(total)
    if count == removed.size:  # No pixel is left: use the image's mean.
        filled = np.broadcast_to(image.reshape(-1, image.shape[-1]).mean(axis=0), known.shape)
    else:
        matrix = sparse.csc_matrix(
            (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (count, count)
        )
        filled = np.reshape(_solved(matrix, known, removed.ndim), known.shape)
    result = np.array(image, np.float32)
    result[removed] = filled + rng.normal(0, ROAD_NOISE, known.shape)
    return np.clip(result, 0, 255)


def _solved(matrix, known, axes):
    """Values of the removed pixels.

    A sparse factorization is fastest for images. For volumes its fill-in takes seconds; the matrix, that of a diffusion
    from the boundary, is symmetric and positive definite, so conjugate gradients reach an error below the noise.
    """
    if axes == 2:
        solution: Any = spsolve(matrix, known)
        return solution
    preconditioner = sparse.diags_array(1 / matrix.diagonal())
    return np.stack([cg(matrix, channel, rtol=IMPUTATION_TOLERANCE, M=preconditioner)[0] for channel in known.T], -1)


def _neighbours(axes):
    """Offsets to the neighbours of a pixel or voxel: along one axis, or diagonally along two."""
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * axes, indexing="ij"), axis=-1).reshape(-1, axes)
    return [tuple(map(int, step)) for step in steps if 1 <= np.abs(step).sum() <= 2]


def _shifted(shape, offset):
    """Slices of the pixels that have a neighbour at an offset, and of these neighbours."""
    inside = tuple(slice(max(0, -step), side - max(0, step)) for side, step in zip(shape, offset, strict=True))
    other = tuple(slice(max(0, step), side - max(0, -step)) for side, step in zip(shape, offset, strict=True))
    return inside, other


def rank_correlation(heatmaps: np.ndarray, others: np.ndarray) -> float:
    """Mean over images of Spearman's rank correlation; 0 for an image where one of the heatmaps is constant."""
    return float(np.mean([_spearman(one, other) for one, other in zip(heatmaps, others, strict=True)]))


def _spearman(one, other):
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    result: Any = stats.spearmanr(np.ravel(one), np.ravel(other))
    return result.statistic


@contextlib.contextmanager
def weights_shuffled(model: keras.Model, seed: int = 0) -> Iterator[None]:
    """Shuffles the values within each of a model's weights, and restores them on exit.

    Heatmaps that do not change show the edges of the image rather than explain the network.

    Reference:
        Adebayo et al. 2018, https://arxiv.org/abs/1810.03292.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    before = [np.array(weights) for weights in model.get_weights()]
    try:
        model.set_weights([rng.permutation(weights.ravel()).reshape(weights.shape) for weights in before])
        yield
    finally:
        model.set_weights(before)


def random_heatmaps(count: int, spatial: Sequence[int], *, cell: int = 4, seed: int = 0) -> np.ndarray:
    """Smooth random heatmaps, the baseline of `judge_heatmaps`.

    Args:
        count: Number of heatmaps.
        spatial: Size of the images.
        cell: Distance of the interpolated random values, in pixels; 4 is that of feature maps a quarter of the image's
            side.
        seed: Seed of the heatmaps.

    Returns:
        Float32 array, shape `(count, *spatial)`, in `[0, 1]`.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    coarse = rng.random((count, *(max(2, -(-side // cell)) for side in spatial)))
    factors = [1, *(side / cells for side, cells in zip(spatial, coarse.shape[1:], strict=True))]
    return np.asarray(ndimage.zoom(coarse, factors, order=1, grid_mode=True, mode="nearest"), np.float32)


@dataclass(frozen=True)
class Similarity:
    """Similarity of two sets of heatmaps of the same images, means over the images.

    Attributes:
        cosine: Cosine similarity of both heatmaps; 1 if both are all zeros, 0 if only one is.
        top_overlap: Share of the hottest pixels that both have in common.
    """

    cosine: float
    top_overlap: float


def similarity(heatmaps: np.ndarray, others: np.ndarray, *, share: float = 0.2) -> Similarity:
    """Similarity of two sets of heatmaps of the same images.

    Args:
        heatmaps, others: In `[0, 1]`, shape `(N, *spatial)`.
        share: Share of the pixels that count as the hottest.
    """
    one, other = (np.reshape(maps, (len(maps), -1)).astype(np.float64) for maps in (heatmaps, others))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    # Two all-zero heatmaps are alike; an all-zero heatmap is unlike any other.
    cosine = np.where(norms > 0, np.sum(one * other, axis=1) / np.maximum(norms, 1e-12), np.all(one == other, axis=1))
    tops = [hottest_first(maps) < share for maps in (heatmaps, others)]
    axes = tuple(range(1, tops[0].ndim))
    overlap = np.sum(tops[0] & tops[1], axis=axes) / np.sum(tops[0], axis=axes)
    return Similarity(float(np.mean(cosine)), float(np.mean(overlap)))
