"""The explanation stage of a run: heatmaps for the report, and how far they can be trusted."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from keras_vision import explanation, quantization
from keras_vision.pipeline import fonts, plots
from keras_vision.pipeline.progress import Progress
from keras_vision.recipe import Recipe

SHUFFLING_SEED = 0
NAME_LENGTH = 22
MOST_CLASSES = 20  # Classes of which the report shows heatmaps.


@dataclass(frozen=True)
class MethodResult:
    """How far the heatmaps of one method, or random ones, can be trusted.

    Attributes:
        method: Name of the method, or `random`.
        images: How many images it was measured on.
        scores: The measurements.
    """

    method: str
    images: int
    scores: explanation.Faithfulness

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {"method": self.method, "images": self.images, **asdict(self.scores)}


@dataclass(frozen=True)
class Heatmaps:
    """What the explanation stage adds to a report; all empty where the recipe asks for no heatmaps.

    Attributes:
        caption: What the heatmaps show, a sentence.
        plots: PNG files: `heatmaps`, images of each class; `surest_mistakes`, misclassified images.
        faithfulness: A row per method and one for random heatmaps.
    """

    caption: str | None = None
    plots: dict[str, bytes] = field(default_factory=dict)
    faithfulness: tuple[MethodResult, ...] = ()


def explain(recipe: Recipe, model: Any, report: Any, progress: Progress) -> Heatmaps:
    """Heatmaps of images of each class and of the most confident mistakes, and measurements of them.

    Args:
        recipe: A `Recipe`.
        model: The trained `keras.Model`.
        report: Its `Report`.
        progress: What is done already.
    """
    spec = recipe.explanation
    if spec.explain == "none":
        return Heatmaps()
    print(f"Explaining with {spec.explain}...", flush=True)
    classes = explained_classes(report)
    rows = {
        "heatmaps": of_each_class(report.labels, spec.explained_per_class, classes),
        "surest_mistakes": report.surest_mistakes(),
    }
    layers = f" of {', '.join(spec.explained_layer)}, in this order" if spec.explained_layer else ""
    several = report.labels.ndim == 2
    present = int(report.labels.any(axis=0).sum()) if several else len(np.unique(report.labels))
    which = "each class" if present == len(classes) else f"each of the {len(classes)} of {present} classes of lowest F1"
    raised = "named label" if several else "predicted class"
    caption = (
        f"Warm colours mark regions that raise the {raised} ({spec.explain}{layers}). The first "
        f"{spec.explained_per_class} images of {which} on the {report.split} split, whether classified correctly or "
        "not."
    )
    drawn = {}
    for name, chosen in rows.items():
        if len(chosen):
            targets = _targets(report, name, chosen, spec.explained_per_class, classes) if several else None
            drawn[name] = plots.png(_panels(spec, model, report, chosen, targets))
    return Heatmaps(caption, drawn, tuple(faithfulness(recipe, model, report, progress)))


def check(recipe: Recipe, model: Any) -> None:
    """Raises an `InputError` before the training where the heatmaps after it could not be made."""
    if recipe.explanation.explain not in ("none", "integrated-gradients"):
        for layer in recipe.explanation.explained_layer or (None,):
            explanation.feature_layer(model, layer)


def explained_classes(report: Any) -> list[int]:
    """Labels of the classes that have images; of more than 20 those of the lowest F1."""
    several = report.labels.ndim == 2
    present = set((np.flatnonzero(report.labels.any(axis=0)) if several else np.unique(report.labels)).tolist())
    return sorted([label for label in report.worst_first() if label in present][:MOST_CLASSES])


def of_each_class(labels: np.ndarray, count: int, classes: Iterable[int]) -> np.ndarray:
    """Rows of the first `count` images of each class, or with each label."""
    found = [labels[:, label] == 1 if labels.ndim == 2 else labels == label for label in classes]
    return np.concatenate([np.flatnonzero(rows)[:count] for rows in found]).astype(int)


def _targets(report, name, rows, count, classes):
    """Of images with several labels the one that is explained: the one that the image stands for, or the worst."""
    if name == "surest_mistakes":
        return report.worst_labels(rows)
    return np.repeat(classes, [min(count, int(report.labels[:, label].sum())) for label in classes])


def _panels(spec, model, report, rows, targets=None):
    method = explanation.METHODS[spec.explain]
    heatmaps = method(model, report.images[rows], targets, layers=spec.explained_layer)
    names = [plots.shorten(name, NAME_LENGTH) for name in fonts.class_labels(report.class_names)]
    if targets is None:
        captions = [explanation.caption(report.probabilities[row], names, report.labels[row]) for row in rows]
    else:
        captions = [report.heatmap_caption(row, label, names) for row, label in zip(rows, targets, strict=True)]
    return explanation.panels(report.images[rows], heatmaps, captions, layers=spec.explained_layer)


def likeness(
    recipe: Recipe, model: Any, content: bytes, twin: Any | None, images: Any
) -> dict[str, explanation.Similarity]:
    """How similar the heatmaps of a .tflite file are to the float model's, by method.

    Args:
        recipe: A `Recipe`; empty where it asks for no heatmaps or for no test of them.
        model: The float `keras.Model`.
        content: Bytes of the file.
        twin: The fake-quantized model that an integer file was written from; else None.
        images: The evaluated images, of which some are used.
    """
    rows = _some(recipe, len(images))
    # A file of a network for volumes has slices in its batch, and so no feature maps of a volume.
    if recipe.explanation.explain == "none" or not len(rows) or images.ndim == 5:
        return {}
    images = images[rows]
    targets = explanation.probabilities(model, images).argmax(axis=1)
    file = quantization.Runner(content, keep_tensors=True)
    others = {"score-cam": file} | ({} if twin is None else {"grad-cam": quantization.without_last_rounding(twin)})
    return {
        name: explanation.similarity(*(explanation.METHODS[name](one, images, targets) for one in (model, other)))
        for name, other in others.items()
    }


def _some(recipe, count):
    """Rows of the images on which heatmaps are tested, drawn from the seed."""
    chosen = np.random.Generator(np.random.Philox(recipe.seed)).permutation(count)
    return np.sort(chosen[: recipe.explanation.faithfulness_images])


def faithfulness(recipe: Recipe, model: Any, report: Any, progress: Progress) -> Iterator[MethodResult]:
    """How far each method's heatmaps can be trusted, and random ones to compare with."""
    rows = _some(recipe, len(report.labels))
    count = len(rows)
    if not count:
        return
    images, targets = report.images[rows], report.probabilities[rows].argmax(axis=1)

    def probabilities(changed):
        return explanation.probabilities(model, changed, batch_size=256)

    def measured(name, heatmaps, shuffled):
        scores = explanation.judge_heatmaps(probabilities, images, heatmaps, targets, shuffled=shuffled)
        return MethodResult(name, count, scores)

    # The first of the layers whose heatmaps the report shows.
    shown = recipe.explanation.explained_layer

    def measure(name, method):
        print(f"Testing the heatmaps of {name}...", flush=True)
        where = {"layers": shown[0]} if shown and name != "integrated-gradients" else {}
        heatmaps = method(model, images, targets, **where)
        with explanation.weights_shuffled(model, SHUFFLING_SEED):
            shuffled = method(model, images, targets, **where)
        return measured(name, heatmaps, shuffled)

    for name, method in explanation.METHODS.items():
        yield progress.once(f"heatmaps of {name}", MethodResult, functools.partial(measure, name, method))
    yield measured("random", explanation.random_heatmaps(count, images.shape[1:-1], seed=recipe.seed), None)
