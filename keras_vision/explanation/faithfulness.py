"""Is a heatmap to be believed? The picture is changed where it says, and the model is asked again.

Everything here takes a function from images to probabilities, so it judges heatmaps of a Keras model and of a .tflite
file alike. Each figure is only worth something beside that of random heatmaps, which `random_heatmaps` makes.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse, stats
from scipy.sparse.linalg import cg, spsolve

BLUR = 0.18  # Standard deviation of what insertion starts from, as a share of the side: RISE's 40 of 224 pixels.
ROAD_SHARES = (0.2, 0.4, 0.6, 0.8)
ROAD_NOISE = 0.01 * 255
IMPUTATION_TOLERANCE = 1e-3  # For volumes: at most .6 of 255 off the exact solution, where the noise is 2.5.


@dataclass(frozen=True)
class Faithfulness:
    """Figures of one method's heatmaps, means over the images.

    Attributes:
        insertion: Area under the target class's probability while a blurred picture gets its hottest pixels back;
            higher is better.
        deletion: The same while the hottest pixels go; lower is better.
        road: How much more the probability suffers when the hottest pixels are imputed than when the coldest are;
            higher is better, random maps have about 0.
        after_shuffling: Rank correlation with the heatmaps of the same network, its weights shuffled; lower is better.
            None where it was not measured.
    """

    insertion: float
    deletion: float
    road: float
    after_shuffling: float | None = None


def judge_heatmaps(probabilities, images, heatmaps, target_classes, *, shuffled=None, steps=16, seed=0):
    """Judges heatmaps.

    Args:
        probabilities: Function from images `(M, *spatial, C)`, float32 in `[0, 255]`, to probabilities `(M, K)`.
        images: Shape `(N, *spatial, C)`.
        heatmaps: Shape `(N, *spatial)`.
        target_classes: Int array, shape `(N,)`: what the heatmaps explain.
        shuffled: Heatmaps of the same images by the same method after the weights were shuffled.
        steps: In how many parts the pixels go or come.
        seed: Of ROAD's noise.

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


def insertion_curve(probabilities, images, heatmaps, target_classes, steps=16):
    """The target class's probability while a blurred picture becomes the picture, hottest pixels first.

    Returns:
        Float array, shape `(N, steps + 1)`; its mean is about the area under the curve.

    Reference:
        Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421.
    """
    sigma = [0, *(BLUR * side for side in images.shape[1:-1]), 0]
    return _curve(probabilities, ndimage.gaussian_filter(images, sigma), images, heatmaps, target_classes, steps)


def deletion_curve(probabilities, images, heatmaps, target_classes, steps=16):
    """The target class's probability while the picture turns into its mean colour, hottest pixels first.

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
    place = hottest_first(heatmaps)
    rows = np.arange(len(start))
    curve = []
    for share in np.linspace(0, 1, steps + 1):
        replaced = (place < share)[..., np.newaxis]
        curve.append(probabilities(np.where(replaced, end, start))[rows, target_classes])
    return np.stack(curve, axis=1)


def hottest_first(heatmaps):
    """Each pixel's place in its heatmap's order, from 0 for the hottest to nearly 1 for the coldest."""
    flat = np.reshape(heatmaps, (len(heatmaps), -1))
    order = np.argsort(-flat, axis=1, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(flat.shape[1])[np.newaxis], axis=1)
    return (place / flat.shape[1]).reshape(np.shape(heatmaps))


def road(probabilities, images, heatmaps, target_classes, *, shares=ROAD_SHARES, seed=0):
    """ROAD: pixels are removed by noisy linear imputation, so that no outline of the removed part tells the class.

    Returns:
        Mean over images and shares of the probability without the coldest pixels minus that without the hottest.

    Reference:
        Rong et al. 2022, https://arxiv.org/abs/2202.00449.
    """
    place = hottest_first(heatmaps)
    rows, rng = np.arange(len(images)), np.random.Generator(np.random.Philox(seed))
    gaps = []
    for share in shares:
        kept = [
            probabilities(_imputed(images, removed, rng))[rows, target_classes]
            for removed in (place >= 1 - share, place < share)
        ]
        gaps.append(kept[0] - kept[1])
    return float(np.mean(gaps))


def _imputed(images, removed, rng):
    return np.stack([impute(image, mask, rng) for image, mask in zip(images, removed, strict=True)])


def impute(image, removed, rng):
    """Fills removed pixels with the mean of their neighbours, which may be removed too, and a little noise.

    Args:
        image: Float array, shape `(*spatial, C)`.
        removed: Bool array, shape `spatial`.
        rng: A NumPy generator.

    Returns:
        Float32 array, clipped to `[0, 255]`.
    """
    if not removed.any():
        return np.float32(image)
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
    if count == removed.size:  # Nothing is known: the picture's mean.
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
    """The removed pixels' values.

    A factorization is the fastest way for pictures. For volumes it fills up and takes seconds; their matrix, that of a
    diffusion from the rim, is symmetric and positive definite, and conjugate gradients come as near as the noise asks.
    """
    if axes == 2:
        return spsolve(matrix, known)
    preconditioner = sparse.diags_array(1 / matrix.diagonal())
    return np.stack([cg(matrix, channel, rtol=IMPUTATION_TOLERANCE, M=preconditioner)[0] for channel in known.T], -1)


def _neighbours(axes):
    """Offsets to the neighbours of a pixel or voxel: along one axis, or diagonally along two."""
    steps = np.stack(np.meshgrid(*[(-1, 0, 1)] * axes, indexing="ij"), axis=-1).reshape(-1, axes)
    return [tuple(map(int, step)) for step in steps if 1 <= np.abs(step).sum() <= 2]


def _shifted(shape, offset):
    """Slices of all pixels that have a neighbour at an offset, and of these neighbours."""
    inside = tuple(slice(max(0, -step), side - max(0, step)) for side, step in zip(shape, offset, strict=True))
    other = tuple(slice(max(0, step), side - max(0, -step)) for side, step in zip(shape, offset, strict=True))
    return inside, other


def rank_correlation(heatmaps, others):
    """Mean over images of Spearman's correlation; a constant heatmap, which ranks nothing, counts as 0."""
    found = []
    for one, other in zip(heatmaps, others, strict=True):
        constant = np.ptp(one) == 0 or np.ptp(other) == 0
        found.append(0.0 if constant else stats.spearmanr(np.ravel(one), np.ravel(other)).statistic)
    return float(np.mean(found))


@contextlib.contextmanager
def weights_shuffled(model, seed=0):
    """Puts the values inside each of a model's weights into a random order, and back afterwards.

    Heatmaps that stay the same meanwhile explain the picture's edges, not the network.

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


def random_heatmaps(count, spatial, *, cell=4, seed=0):
    """Smooth random maps, as coarse as those of feature maps a `cell`-th of the picture's side.

    Returns:
        Float32 array, shape `(count, *spatial)`, in `[0, 1]`.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    coarse = rng.random((count, *(max(2, -(-side // cell)) for side in spatial)))
    factors = [1, *(side / cells for side, cells in zip(spatial, coarse.shape[1:], strict=True))]
    return np.float32(ndimage.zoom(coarse, factors, order=1, grid_mode=True, mode="nearest"))


@dataclass(frozen=True)
class Similarity:
    """How similar two sets of heatmaps of the same images are, means over the images.

    Attributes:
        cosine: Cosine of the angle between both heatmaps.
        top_overlap: Share of the hottest pixels that both have in common.
    """

    cosine: float
    top_overlap: float


def similarity(heatmaps: np.ndarray, others: np.ndarray, *, share: float = 0.2) -> Similarity:
    """How similar two sets of heatmaps of the same images are.

    Args:
        heatmaps, others: In `[0, 1]`, shape `(N, *spatial)`.
        share: Of the pixels that count as the hottest.
    """
    one, other = (np.reshape(maps, (len(maps), -1)).astype(np.float64) for maps in (heatmaps, others))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    # Two maps without any heat are alike; one without is unlike any other.
    cosine = np.where(norms > 0, np.sum(one * other, axis=1) / np.maximum(norms, 1e-12), np.all(one == other, axis=1))
    tops = [hottest_first(maps) < share for maps in (heatmaps, others)]
    axes = tuple(range(1, tops[0].ndim))
    overlap = np.sum(tops[0] & tops[1], axis=axes) / np.sum(tops[0], axis=axes)
    return Similarity(float(np.mean(cosine)), float(np.mean(overlap)))
