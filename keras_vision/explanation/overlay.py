"""Heatmaps over their images: as arrays, as plots with captions, and slice by slice for volumes."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from keras_vision.recipe import InputError

PANEL_SLICES = 8


def overlay(
    image: np.ndarray, heatmap: np.ndarray, *, colormap: str | ArrayLike = "turbo", opacity: float = 0.5
) -> np.ndarray:
    """Blends a heatmap over its image.

    Args:
        image: In `[0, 255]`, shape `(H, W)`, `(H, W, 1)` or `(H, W, 3)`.
        heatmap: In `[0, 1]`, shape `(H, W)`.
        colormap: Name of a matplotlib colormap, or an array of colours in `[0, 255]`, shape `(256, 3)`.
        opacity: Opacity of the heatmap, in `[0, 1]`.

    Returns:
        uint8 array, shape `(H, W, 3)`.

    Raises:
        InputError: If the sizes differ, the image has another number of channels, or the colormap does not exist.
    """
    rgb, heatmap = to_rgb(image), np.asarray(heatmap, np.float32)
    if rgb.shape[:2] != heatmap.shape:
        raise InputError(
            f"A heatmap must have its image's size. Received: {heatmap.shape} for an image of shape {np.shape(image)}."
        )
    colours = _colours(colormap)[np.rint(np.clip(heatmap, 0, 1) * 255).astype(np.uint8)]
    return cv2.addWeighted(rgb, 1 - opacity, colours, opacity, 0)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """A gray or RGB image in `[0, 255]` as uint8 array, shape `(H, W, 3)`.

    Raises:
        InputError: If the image does not have 1 or 3 channels.
    """
    rgb = np.rint(np.clip(np.asarray(image, np.float32), 0, 255)).astype(np.uint8)
    rgb = rgb[..., np.newaxis] if rgb.ndim == 2 else rgb
    if rgb.ndim != 3 or rgb.shape[-1] not in (1, 3):
        raise InputError(f"An image must have 1 or 3 channels. Received: shape {np.shape(image)}.")
    return np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3)))


def _colours(colormap):
    if isinstance(colormap, str):
        if colormap not in matplotlib.colormaps:
            raise InputError(f"Colormaps are those of matplotlib, like 'turbo' or 'viridis'. Received: {colormap!r}.")
        return matplotlib.colormaps[colormap](np.arange(256), bytes=True)[:, :3]
    table = np.asarray(colormap)
    if table.shape != (256, 3):
        raise InputError(f"A colormap must be a name or an array of shape (256, 3). Received: shape {table.shape}.")
    return np.clip(table, 0, 255).astype(np.uint8)


def caption(probabilities: np.ndarray, class_names: Sequence[str], label: int | None = None) -> str:
    """True and predicted class of an image with their probabilities, one line each.

    Args:
        probabilities: Shape `(K,)`.
        class_names: K names.
        label: The true class, None if unknown.
    """
    predicted = int(np.argmax(probabilities))
    lines = [] if label is None else [f"true: {class_names[label]} {probabilities[label]:.2f}"]
    return "\n".join([*lines, f"predicted: {class_names[predicted]} {probabilities[predicted]:.2f}"])


def panels(
    images: np.ndarray,
    heatmaps: np.ndarray | Sequence[np.ndarray],
    captions: Sequence[str],
    *,
    layers: Sequence[str] | None = None,
    colormap: str | ArrayLike = "turbo",
    opacity: float = 0.5,
    columns: int = 4,
) -> Figure:
    """Plots each image next to its heatmap overlays; of a volume, slices above the same slices with overlays.

    Args:
        images: In `[0, 255]`, shape `(N, H, W, C)` or `(N, D, H, W, C)`.
        heatmaps: In `[0, 1]`, shape `(N, H, W)` or `(N, D, H, W)`; with `layers`, a list of such arrays, one per layer.
        captions: N texts, see `caption`.
        layers: Names of the explained layers, for the title.
        colormap, opacity: See `overlay`.
        columns: Pairs of images per row; fewer if there are several layers, or volumes, which are wider.

    Returns:
        A matplotlib figure.
    """
    stacks = [heatmaps] if layers is None else heatmaps
    volumes = np.ndim(images[0]) == 4
    tiles = 1 + len(stacks)
    if volumes:
        draw, width, height, columns = _slices, 5.8, 0.9 * tiles, -(-columns // 2)
    else:
        draw, width, height, columns = _row, 1.45 * tiles, 1.95, max(1, 2 * columns // tiles)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    if layers is not None:
        figure.suptitle(" | ".join(["image", *layers]), fontsize=8)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, maps, text in zip(grid.flat, images, zip(*stacks, strict=True), captions, strict=False):
        axes.imshow(draw(image, maps, colormap, opacity))
        axes.set_title(text.replace("$", r"\$"), fontsize=6.5)  # Two dollar signs would start a formula.
    return figure


def _row(image, heatmaps, colormap, opacity):
    overlays = [overlay(image, heatmap, colormap=colormap, opacity=opacity) for heatmap in heatmaps]
    return np.hstack([to_rgb(image), *overlays])


def _slices(volume, heatmaps, colormap, opacity):
    def row(heatmap, opacity):
        return montage(volume, heatmap, colormap=colormap, opacity=opacity, slices=PANEL_SLICES, columns=PANEL_SLICES)

    return np.vstack([row(heatmaps[0], 0), *(row(heatmap, opacity) for heatmap in heatmaps)])


def montage(
    volume: np.ndarray,
    heatmap: np.ndarray,
    *,
    colormap: str | ArrayLike = "turbo",
    opacity: float = 0.5,
    slices: int = 16,
    columns: int = 4,
) -> np.ndarray:
    """Evenly spaced slices of a volume with their heatmaps, without the constant slices at both ends of its first axis.

    Args:
        volume: In `[0, 255]`, shape `(D, H, W, C)`.
        heatmap: In `[0, 1]`, shape `(D, H, W)`.
        colormap, opacity: See `overlay`.
        slices: Maximum number of slices.
        columns: Slices per row.

    Returns:
        uint8 array of all slices in rows, from the top left; the rest of the last row is black.

    Raises:
        InputError: If the volume has no channel axis, or the heatmap's size differs.
    """
    if np.ndim(volume) != 4 or np.shape(volume)[:3] != np.shape(heatmap):
        raise InputError(
            "A montage needs a volume of shape (D, H, W, C) and its heatmap of shape (D, H, W). "
            f"Received: {np.shape(volume)} and {np.shape(heatmap)}."
        )
    height, width = np.shape(heatmap)[1:]
    shown = np.flatnonzero(np.ptp(volume, axis=(1, 2, 3)))
    first, last = (shown[0], shown[-1] + 1) if len(shown) else (0, len(heatmap))
    count = min(slices, last - first)
    # The centres of equal parts.
    chosen = first + ((np.arange(count) + 0.5) * (last - first) / count).astype(int)
    columns = min(columns, len(chosen))
    grid = np.zeros((-(-len(chosen) // columns) * height, columns * width, 3), np.uint8)
    for position, index in enumerate(chosen):
        row, column = (position // columns) * height, (position % columns) * width
        tile = overlay(volume[index], heatmap[index], colormap=colormap, opacity=opacity)
        grid[row : row + height, column : column + width] = tile
    return grid
