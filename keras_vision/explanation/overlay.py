"""Heatmaps over their images: as arrays, as figures with captions, and slice by slice for volumes."""

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_vision.recipe import InputError

PANEL_SLICES = 8


def overlay(image, heatmap, *, colormap="turbo", opacity=0.5):
    """An image with its heatmap over it.

    Args:
        image: In `[0, 255]`, shape `(H, W)`, `(H, W, 1)` or `(H, W, 3)`.
        heatmap: In `[0, 1]`, shape `(H, W)`.
        colormap: A name that matplotlib knows, or an array `(256, 3)` of colours in `[0, 255]`.
        opacity: Share of the colours, from 0 to 1.

    Returns:
        uint8 array, shape `(H, W, 3)`.

    Raises:
        InputError: If the sizes differ, the image has another number of channels, or the colormap is not there.
    """
    picture, heatmap = to_rgb(image), np.asarray(heatmap, np.float32)
    if picture.shape[:2] != heatmap.shape:
        raise InputError(
            f"A heatmap has its image's size. Received: {heatmap.shape} for an image of shape {np.shape(image)}."
        )
    colours = _colours(colormap)[np.rint(np.clip(heatmap, 0, 1) * 255).astype(np.uint8)]
    return cv2.addWeighted(picture, 1 - opacity, colours, opacity, 0)


def to_rgb(image):
    """A picture in `[0, 255]`, gray or in colour, as uint8 of shape `(H, W, 3)`."""
    picture = np.rint(np.clip(np.asarray(image, np.float32), 0, 255)).astype(np.uint8)
    picture = picture[..., np.newaxis] if picture.ndim == 2 else picture
    if picture.ndim != 3 or picture.shape[-1] not in (1, 3):
        raise InputError(f"A picture has 1 or 3 channels. Received: shape {np.shape(image)}.")
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _colours(colormap):
    if isinstance(colormap, str):
        if colormap not in matplotlib.colormaps:
            raise InputError(f"Colormaps are those of matplotlib, as 'turbo' or 'viridis'. Received: {colormap!r}.")
        return matplotlib.colormaps[colormap](np.arange(256), bytes=True)[:, :3]
    table = np.asarray(colormap)
    if table.shape != (256, 3):
        raise InputError(f"A colormap is a name or an array of shape (256, 3). Received: shape {table.shape}.")
    return np.clip(table, 0, 255).astype(np.uint8)


def caption(probabilities, class_names, label=None):
    """True and predicted class of an image and their probabilities, a line each.

    Args:
        probabilities: Shape `(K,)`.
        class_names: K names.
        label: The true class, None where nobody knows it.
    """
    predicted = int(np.argmax(probabilities))
    lines = [] if label is None else [f"true: {class_names[label]} {probabilities[label]:.2f}"]
    return "\n".join([*lines, f"predicted: {class_names[predicted]} {probabilities[predicted]:.2f}"])


def panels(images, heatmaps, captions, *, layers=None, colormap="turbo", opacity=0.5, columns=4):
    """Each image and, beside it, the same with its heatmap; of a volume, slices and below them the same with heat.

    Args:
        images: In `[0, 255]`, shape `(N, H, W, C)` or `(N, D, H, W, C)`.
        heatmaps: In `[0, 1]`, shape `(N, H, W)` or `(N, D, H, W)`; with `layers` a list of such arrays, one for each.
        captions: N texts, see `caption`.
        layers: Names of the layers that the heatmaps are of; they stand on top, in the order of the pictures.
        columns: Pairs of pictures in a row; of more than two pictures, and of volumes, which are wider, fewer.

    Returns:
        A matplotlib figure.
    """
    stacks = [heatmaps] if layers is None else heatmaps
    volumes = np.ndim(images[0]) == 4
    pictures = 1 + len(stacks)
    if volumes:
        draw, width, height, columns = _slices, 5.8, 0.9 * pictures, -(-columns // 2)
    else:
        draw, width, height, columns = _row, 1.45 * pictures, 1.95, max(1, 2 * columns // pictures)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    if layers is not None:
        figure.suptitle(" | ".join(["image", *layers]), fontsize=8)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, maps, text in zip(grid.flat, images, zip(*stacks, strict=True), captions, strict=False):
        axes.imshow(draw(image, maps, {"colormap": colormap, "opacity": opacity}))
        axes.set_title(text.replace("$", r"\$"), fontsize=6.5)  # Two of them would be read as a formula.
    return figure


def _row(picture, heatmaps, colours):
    return np.hstack([to_rgb(picture), *(overlay(picture, heatmap, **colours) for heatmap in heatmaps)])


def _slices(volume, heatmaps, colours):
    shown = {"slices": PANEL_SLICES, "columns": PANEL_SLICES}
    plain = montage(volume, heatmaps[0], **colours | {"opacity": 0}, **shown)
    return np.vstack([plain, *(montage(volume, heatmap, **colours, **shown) for heatmap in heatmaps)])


def montage(volume, heatmap, *, colormap="turbo", opacity=0.5, slices=16, columns=4):
    """Slices of a volume, evenly spread over the part of its first axis that shows anything, each with its heatmap.

    Args:
        volume: In `[0, 255]`, shape `(D, H, W, C)`.
        heatmap: In `[0, 1]`, shape `(D, H, W)`.
        slices: How many at most.
        columns: Slices in a row.

    Returns:
        uint8 array of all slices in rows, from the top left; black where the last row has no more.

    Raises:
        InputError: If the volume has no channels' axis, or the heatmap is not of its size.
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
    # The middles of equal parts.
    chosen = first + ((np.arange(count) + 0.5) * (last - first) / count).astype(int)
    columns = min(columns, len(chosen))
    picture = np.zeros((-(-len(chosen) // columns) * height, columns * width, 3), np.uint8)
    for place, number in enumerate(chosen):
        row, column = (place // columns) * height, (place % columns) * width
        drawn = overlay(volume[number], heatmap[number], colormap=colormap, opacity=opacity)
        picture[row : row + height, column : column + width] = drawn
    return picture
