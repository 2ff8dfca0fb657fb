"""Regions filled with the image's mean colour: cutout and random erasing."""

import numpy as np

# A rectangle's share of the image's area, and its smallest ratio of height to width (the inverse is the largest):
# torchvision's defaults.
_AREAS = (0.02, 0.33)
_FLATTEST = 0.3


def cutout(images: np.ndarray, share: float, draws_x: np.ndarray, draws_y: np.ndarray) -> None:
    """Fills a square with its image's mean colour, in place (DeVries and Taylor 2017, arxiv.org/abs/1708.04552).

    The square's centre is anywhere in the image, so the square may reach beyond the edge, as in the paper.
    """
    _, height, width, _ = images.shape
    half = share * min(height, width) / 2
    in_rows = np.abs(np.arange(height) + 0.5 - (draws_y * height)[:, np.newaxis]) <= half
    in_columns = np.abs(np.arange(width) + 0.5 - (draws_x * width)[:, np.newaxis]) <= half
    square = in_rows[:, :, np.newaxis, np.newaxis] & in_columns[:, np.newaxis, :, np.newaxis]
    np.copyto(images, images.mean((1, 2), keepdims=True), where=square)


def random_erasing(images: np.ndarray, probability: float, draws: np.ndarray) -> None:
    """Fills a rectangle in some of the images with the image's mean colour, in place.

    The paper fills rectangles with random values. The mean is the same as for cutout and costs less: a generator of
    random values for each image would take longer than everything else (7 of 12 us).

    Args:
        images: Float32 array, shape `(N, H, W, C)`.
        probability: Share of the images that lose a rectangle.
        draws: Five columns of `draws.uniforms`, shape `(N, 5)`.

    Reference:
        Zhong et al. 2017, https://arxiv.org/abs/1708.04896, algorithm 1.
    """
    _, height, width, channels = images.shape
    chosen = np.flatnonzero(draws[:, 0] < probability)
    mean_of_all = np.full(height * width, 1 / (height * width), np.float32)
    for index, (top, bottom, left, right) in zip(chosen, rectangles(height, width, draws[chosen, 1:]), strict=True):
        images[index, top:bottom, left:right] = mean_of_all @ images[index].reshape(-1, channels)


def rectangles(height: int, width: int, draws: np.ndarray) -> np.ndarray:
    """Random rectangles inside an image.

    Tall ones are as frequent as wide ones: the logarithm of the aspect is uniform, as in torchvision's RandomErasing.
    The paper repeats area and aspect until the rectangle fits; here the aspect is drawn from those that fit.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        draws: Array, shape `(N, 4)`, in `[0, 1)`: for area, aspect, y and x.

    Returns:
        Int array, shape `(N, 4)`: first row, row after the last, first column, column after the last.
    """
    smallest, largest = _AREAS
    area = (smallest + (largest - smallest) * draws[:, 0]) * height * width
    flattest, tallest = (np.log(np.clip(one, area / width**2, height**2 / area)) for one in (_FLATTEST, 1 / _FLATTEST))
    aspect = np.exp(flattest + (tallest - flattest) * draws[:, 1])
    rows = np.clip(np.rint(np.sqrt(area * aspect)), 1, height)
    columns = np.clip(np.rint(np.sqrt(area / aspect)), 1, width)
    top = np.floor(draws[:, 2] * (height - rows + 1))
    left = np.floor(draws[:, 3] * (width - columns + 1))
    return np.stack([top, top + rows, left, left + columns], axis=1).astype(int)
