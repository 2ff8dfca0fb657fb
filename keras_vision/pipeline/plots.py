"""The plots of a report, each drawn by one function that returns a matplotlib figure."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_vision.data import Batches, Split
from keras_vision.evaluation import OperatingPoint, Reliability
from keras_vision.recipe import AugmentationSpec

DOTS_PER_INCH = 110
UNEVEN = 30  # Ratio of the longest to the shortest bar from which the short one can hardly be seen on a linear axis.


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def learning_curves(runs: dict[str, list[dict[str, float]]]) -> Figure:
    """Loss and accuracy over epochs, training dashed and validation solid.

    Args:
        runs: `{name: list of dicts}`, the epochs of each run's history.
    """
    many = len(runs) > 2  # Whose legend would hide curves.
    figure = Figure(figsize=(11.5 if many else 9, 3.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for number, (name, epochs) in enumerate(runs.items()):
            steps, colour = np.arange(1, len(epochs) + 1), f"C{number}"
            label = f"{literal(name)}, " if len(runs) > 1 else ""
            marker = "o" if len(epochs) == 1 else None
            train = [epoch[metric] for epoch in epochs]
            val = [epoch[f"val_{metric}"] for epoch in epochs]
            axes.plot(steps, train, "--", color=colour, alpha=0.7, marker=marker, label=f"{label}training")
            axes.plot(steps, val, color=colour, marker=marker, label=f"{label}validation")
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    (figure if many else figure.axes[0]).legend(
        lines, labels, fontsize=8, loc="outside right upper" if many else "upper right"
    )
    return figure


def last_epochs(runs: dict[float, Sequence[dict[str, float]]], hyperparameter: str) -> Figure:
    """Loss and accuracy after the last epoch over one hyperparameter, training dashed and validation solid.

    Args:
        runs: `{value of the hyperparameter: the epochs of a run's history}`.
        hyperparameter: Its name.
    """
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, style, label in (("", "o--", "training"), ("val_", "o-", "validation")):
            last = [epochs[-1][f"{prefix}{metric}"] for epochs in runs.values()]
            axes.plot(list(runs), last, style, color="C0" if prefix else "C1", label=label)
        axes.set(xlabel=hyperparameter, ylabel=f"{metric} after the last epoch", xscale="log")
        axes.set_xticks(list(runs), [f"{value:g}" for value in runs])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
    figure.axes[0].legend(fontsize=8, loc="upper right")
    return figure


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Rows are true classes, columns predicted ones; colour is the share of the row, the numbers are images."""
    import seaborn

    side = max(4.0, 0.62 * len(class_names) + 2.6)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    names = [literal(shorten(name)) for name in class_names]
    seaborn.heatmap(
        share,
        annot=matrix,
        fmt="d",
        cmap="Blues",
        vmin=0,
        vmax=1,
        square=True,
        xticklabels=names,
        yticklabels=names,
        cbar_kws={"label": "share of the true class", "shrink": 0.7},
        ax=axes,
    )
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticklabels(axes.get_xticklabels(), rotation=40, ha="right")
    axes.set_yticklabels(axes.get_yticklabels(), rotation=0)
    return figure


def reliability_curve(calibration: Reliability) -> Figure:
    """Accuracy over confidence, with the number of images in each bin below."""
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], ":", color="gray", label="perfect")
    upper.plot(calibration.confidence, calibration.accuracy, "o-", label="this model")
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    upper.legend(fontsize=8, loc="upper left")
    upper.grid(alpha=0.25)
    lower.bar(calibration.confidence, calibration.count, width=0.05)
    lower.set(xlabel="confidence", ylabel="images")
    return figure


def roc_curve(point: OperatingPoint) -> Figure:
    """The ROC curve of an `OperatingPoint`, with the threshold that was chosen and one half on it."""
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], ":", color="gray", label="guessing")
    axes.plot(*point.curve, label="this model")
    for rates, label in ((point.chosen, f"from {point.threshold:.3f}, chosen on validation"), (point.half, "from 0.5")):
        axes.plot(1 - rates["specificity"][0], rates["sensitivity"][0], "o", label=label)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(fontsize=8, loc="lower right")
    axes.grid(alpha=0.25)
    return figure


def class_balance(counts: dict[str, list[int]], class_names: Sequence[str]) -> Figure:
    """Images per class and split, as bars; on a logarithmic axis where rare classes would be invisible."""
    figure = Figure(figsize=(9, 0.42 * len(class_names) + 1.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(class_names))
    for number, (split, values) in enumerate(counts.items()):
        bars = axes.barh(places + (number - 1) * 0.27, values, height=0.25, label=split)
        axes.bar_label(bars, padding=2, fontsize=7)
    axes.set_yticks(places, [literal(shorten(name)) for name in class_names])
    axes.invert_yaxis()
    there = [number for values in counts.values() for number in values if number]
    if there and max(there) > UNEVEN * min(there):
        axes.set(xscale="log", xlabel="images (logarithmic)")
    else:
        axes.set(xlabel="images")
    axes.margins(x=0.1)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def gallery(images: Any, captions: Sequence[str], columns: int = 8) -> Figure:
    """Images with a caption each; of a volume, three slices side by side, at a quarter, half and three quarters of it.

    Args:
        images: uint8 array, shape `(N, H, W, C)` or `(N, D, H, W, C)`.
        captions: N texts of up to three lines.
        columns: Images in a row; of volumes half as many.
    """
    wide = 2 if images.ndim == 5 else 1
    columns //= wide
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.45 * wide * columns, (1.95 if wide == 1 else 1.6) * rows), layout="constrained")
    if images.ndim == 5:
        images = [np.hstack([volume[len(volume) * part // 4] for part in (1, 2, 3)]) for volume in images]
    return _captioned(figure, rows, columns, images, captions)


def pairs(images: np.ndarray, captions: Sequence[str], columns: int = 3) -> Figure:
    """Two images side by side, pair by pair, with a caption each.

    Args:
        images: uint8 array, shape `(P, 2, H, W, C)`.
        captions: P texts or more, of three lines.
        columns: Pairs in a row.
    """
    both = np.concatenate([images[:, 0], images[:, 1]], axis=2)
    rows = -(-len(both) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.1 * rows), layout="constrained")
    return _captioned(figure, rows, columns, both, captions)


def augmentations(split: Split, num_classes: int, changes: dict[str, AugmentationSpec], *, seed: int = 0) -> Figure:
    """Images in the first row and, below, the same images after each change, a row per change.

    Args:
        split: The images, two or more, a column each.
        num_classes: Number of classes.
        changes: `{name: the changes of its row}`.
        seed: Seed of the changes.
    """
    rows: dict[str, Any] = {"unchanged": None, **changes}
    figure = Figure(figsize=(0.62 * len(split) + 1.5, 0.64 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(split), squeeze=False)
    for places, (name, spec) in zip(grid, rows.items(), strict=True):
        images, _ = Batches(split, num_classes, len(split), augmentation=spec, seed=seed)[0]
        for axes, image in zip(places, images, strict=True):
            axes.imshow(
                np.rint(image).astype(np.uint8).squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest"
            )
            axes.set(xticks=[], yticks=[])
        places[0].set_ylabel(literal(name), rotation=0, ha="right", va="center", fontsize=8)
    return figure


def tensor_errors(files: dict[str, Any]) -> Figure:
    """Relative error of each tensor of integer files, in the order in which the file computes them.

    Args:
        files: `{label: FileResult}`, of networks of the same layers.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, file in files.items():
        errors = {error.tensor: error.relative_error for error in file.tensor_errors}
        names = [operator.output for operator in file.audit.operators if operator.output in errors]
        axes.plot(np.arange(len(names)), [errors[name] for name in names], "o-", label=literal(label))
        axes.set_xticks(np.arange(len(names)), [shorten(name) for name in names], rotation=40, ha="right", fontsize=7)
    axes.set(ylabel="relative error", yscale="log")
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(alpha=0.25)
    return figure


def _captioned(figure, rows, columns, images, captions):
    """The figure with an image in each cell of a grid, as long as there are any, and its caption above it."""
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(literal(caption), fontsize=6.5)
    return figure


def literal(text: str) -> str:
    """A text that matplotlib shows as it is; between two dollar signs it would read a formula."""
    return text.replace("$", r"\$")


def shorten(name: str, length: int = 24) -> str:
    """A class name that fits beside an axis."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"
