"""The plots of a report, each drawn by one function that returns a matplotlib figure."""

import collections
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from keras_vision.data import Batches, Split
from keras_vision.evaluation import LabelMetrics, OperatingPoint, Reliability, confused_pairs, mean_interval
from keras_vision.pipeline import fonts
from keras_vision.pipeline.tables import count_range
from keras_vision.recipe import AugmentationSpec

DOTS_PER_INCH = 110
PAGE_WIDTH = 9.0  # Inches: at 110 dots an inch, what a page shows without making it smaller.
FEW_CLASSES = 10  # A confusion matrix of these can be read at half a page's width.
MOST_NUMBERS = 30  # Classes of a confusion matrix with numbers.
MOST_NAMES = 40  # Classes whose names can be read beside an axis of a page's width.
SMALLEST_NUMBER = 5.5  # Points.
UNEVEN = 30  # Ratio of the longest to the shortest bar from which the short one can hardly be seen on a linear axis.


def png(figure: Figure) -> bytes:
    """A matplotlib figure as a PNG file."""
    buffer = io.BytesIO()
    with fonts.quiet():
        fonts.fit(figure).savefig(buffer, format="png", dpi=DOTS_PER_INCH)
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
    return fonts.fit(figure)


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


def over_seeds(
    settings: dict[str, dict[int, float]], metric: str, where: str = "validation", unit: str = "seeds"
) -> Figure:
    """A metric of each setting: a dot for each seed or fold, and the mean with its 95 % t interval.

    Args:
        settings: `{name: {seed: value}}`, drawn from top to bottom.
        metric: Name of the metric.
        where: What the metric is of.
        unit: What the dots are.
    """
    figure = Figure(figsize=(PAGE_WIDTH, 0.4 * len(settings) + 1.2), layout="constrained")
    axes = figure.subplots()
    for place, values in enumerate(settings.values()):
        array = np.array([value for value in values.values() if np.isfinite(value)])
        axes.plot(array, np.full(len(array), place), "o", color="C0", alpha=0.4, markersize=5)
        if not len(array):
            continue
        mean, low, high = mean_interval(array)
        around = [[mean - low], [high - mean]] if np.isfinite(low) else None
        axes.errorbar([mean], [place + 0.22], xerr=around, fmt="D", color="C1", markersize=5, capsize=3)
    axes.set_yticks(range(len(settings)), [literal(shorten(name, 60)) for name in settings])
    axes.set(ylim=(len(settings) - 0.4, -0.6), xlabel=f"{metric} on {where}; dots are {unit}, with mean and interval")
    axes.grid(alpha=0.25, axis="x")
    return fonts.fit(figure)


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Rows are true classes, columns predicted ones; colour is the share of the row, the numbers are images.

    Numbers are left out where they could not be read. Of more than 40 classes those are drawn that are confused most.

    Args:
        matrix: Int array, shape `(K, K)`.
        class_names: K names.
    """
    names, share = fonts.class_labels(class_names), matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    drawn = _most_confused(matrix) if len(names) > MOST_NAMES else np.arange(len(names))
    names = axis_names([names[label] for label in drawn])
    matrix, share, count = matrix[np.ix_(drawn, drawn)], share[np.ix_(drawn, drawn)], len(drawn)
    few = count <= FEW_CLASSES
    side = max(4.0, 0.62 * count + 2.6)
    size = (side + 1, side) if few else (PAGE_WIDTH, PAGE_WIDTH - 0.8)
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots()
    letters = _number_size(matrix, 72 * (size[1] - 2.2) / max(1, count))
    numbers = count <= MOST_NUMBERS and letters >= SMALLEST_NUMBER
    # Where no number tells them, shares of a few per cent must be seen.
    scale = Normalize(0, 1) if numbers else PowerNorm(0.5, 0, 1)
    shares = axes.imshow(share, cmap="Blues", norm=scale, interpolation="nearest")
    figure.colorbar(shares, ax=axes, label="share of the true class", shrink=0.7, fraction=0.05)
    if numbers:
        _write_numbers(axes, matrix, share, letters, few)
    _name_cells(axes, names, few)
    axes.set(xlabel="predicted", ylabel="true")
    if count < len(class_names):
        axes.set_title(f"the {count} of {len(class_names):,} classes that are confused most", fontsize=10)
    return fonts.fit(figure)


def _write_numbers(axes, matrix, share, size, zeros):
    for row, column in np.ndindex(matrix.shape) if zeros else np.argwhere(matrix > 0):
        colour = "white" if share[row, column] > 0.55 else "black"
        axes.text(column, row, f"{matrix[row, column]}", ha="center", va="center", color=colour, fontsize=size)


def _name_cells(axes, names, few):
    """The names beside both axes, and lines between the cells."""
    places, between = np.arange(len(names)), np.arange(1, len(names)) - 0.5
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.tick_params(labelsize=10 if few else 8)
    for label in axes.get_xticklabels():
        label.set(rotation=40 if few else 90, ha="right" if few else "center", rotation_mode="anchor" if few else None)
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="minor", length=0)


def _most_confused(matrix):
    """Labels of the classes in the pairs that are confused most, as many as can be named, in order."""
    # All others follow, for a matrix of few mistakes.
    order = np.concatenate([confused_pairs(matrix).ravel(), np.arange(len(matrix))])
    labels, first = np.unique(order, return_index=True)
    return np.sort(labels[np.argsort(first)[:MOST_NAMES]])


def _number_size(matrix, cell):
    """The font size at which the longest number fits into a cell; both in points."""
    return min(10.0, cell / (0.8 * len(str(int(matrix.max(initial=0))))))


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


def label_metrics(rows: Sequence[LabelMetrics], class_names: Sequence[str]) -> Figure:
    """AUC and average precision of each label with their intervals, the highest AUC first.

    Of more than 40 labels those with the lowest AUC.

    Args:
        rows: The metrics of each label.
        class_names: As many names.
    """
    order = sorted(range(len(rows)), key=lambda label: -np.nan_to_num(rows[label].auc.value, nan=2.0))[-MOST_NAMES:]
    height = 0.42 if len(order) <= 20 else 0.34
    figure = Figure(figsize=(PAGE_WIDTH, height * len(order) + 1.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(order))
    axes.axvline(0.5, linestyle=":", color="gray", label="AUC of guessing")
    for name, shift, marker in (("auc", -0.15, "o"), ("average_precision", 0.15, "s")):
        found = np.array([getattr(rows[label], name) for label in order], float)
        value, low, high = found.T
        around = np.clip([value - low, high - value], 0, None)
        called = "AUC" if name == "auc" else "average precision"
        axes.errorbar(value, places + shift, xerr=around, fmt=marker, markersize=4, capsize=2, label=called)
    names = fonts.class_labels(class_names)
    axes.set_yticks(places, axis_names([f"{names[label]} ({rows[label].support:,})" for label in order]))
    axes.set(xlim=(-0.02, 1.02), ylim=(len(order) - 0.4, -0.6), xlabel="95 % intervals; in brackets, images")
    axes.legend(fontsize=8, loc="lower left")
    axes.grid(alpha=0.25, axis="x")
    return fonts.fit(figure)


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
    """Images per class and split, as bars; on a logarithmic axis where rare classes would be invisible.

    Of more than 40 classes a histogram: how many classes have how many images.

    Args:
        counts: `{split: images of each class}`.
        class_names: Names of the classes.
    """
    there = [number for values in counts.values() for number in values if number]
    uneven = bool(there) and max(there) > UNEVEN * min(there)
    if len(class_names) > MOST_NAMES:
        return _balance_histogram(counts, uneven)
    height = 0.42 if len(class_names) <= 20 else 0.34
    figure = Figure(figsize=(PAGE_WIDTH, height * len(class_names) + 1.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(class_names))
    for number, (split, values) in enumerate(counts.items()):
        bars = axes.barh(places + (number - 1) * 0.27, values, height=0.25, label=split)
        axes.bar_label(bars, padding=2, fontsize=7)
    axes.set_yticks(places, axis_names(fonts.class_labels(class_names)))
    axes.set_ylim(len(class_names) - 0.4, -0.6)
    if uneven:
        axes.set(xscale="log", xlabel="images (logarithmic)")
    else:
        axes.set(xlabel="images")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.margins(x=0.1)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return fonts.fit(figure)


def _balance_histogram(counts, uneven):
    figure = Figure(figsize=(PAGE_WIDTH, 1.4 * len(counts) + 0.5), layout="constrained")
    every = np.concatenate([*counts.values(), [0]]).astype(int)
    low, high = (every[every > 0].min(), every.max()) if uneven else (every.min(), every.max())
    spaced = np.geomspace(low, high + 1, 31) if uneven else np.linspace(low, high + 1, 31)
    edges = np.unique(np.rint(spaced)) - 0.5  # A bar of one number is above that number.
    grid = figure.subplots(len(counts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (split, values) in zip(grid, counts.items(), strict=True):
        axes.stairs(np.histogram(values, edges)[0], edges, fill=True)
        axes.set_title(f"{split}, images of a class: {count_range(values)}", fontsize=9, loc="left")
        axes.set(ylabel="classes")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    grid[-1].set(xscale="log" if uneven else "linear", xlabel="images of a class" + " (logarithmic)" * uneven)
    grid[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
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
        axes.set_xticks(
            np.arange(len(names)), [literal(shorten(name)) for name in names], rotation=40, ha="right", fontsize=7
        )
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
    return fonts.fit(figure)


def literal(text: str) -> str:
    """A text that matplotlib shows as it is; between two dollar signs it would read a formula."""
    return fonts.visible(text).replace("$", r"\$")


def shorten(name: str, length: int = 24) -> str:
    """A class name that fits beside an axis."""
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def axis_names(names: Sequence[str]) -> list[str]:
    """Class names that fit beside an axis; those that begin alike lose their middle instead of their end."""
    short = [shorten(name) for name in names]
    several = {name for name, times in collections.Counter(short).items() if times > 1}
    ends = [f"{name[:10].rstrip()}…{name[-13:].lstrip()}" for name in names]
    return [
        literal(end if cut in several and cut != name else cut)
        for name, cut, end in zip(names, short, ends, strict=True)
    ]
