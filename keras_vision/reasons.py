"""The stage before the files: heatmaps for the report, and whether they are to be believed."""

import dataclasses

import numpy as np

from keras_vision import evaluation, explanation, quantization

SHUFFLING_SEED = 0
NAME_LENGTH = 22


def explain(recipe, model, report):
    """The report with heatmaps of test images of each class and of the surest mistakes, and with a judgement of them.

    Args:
        recipe: A `recipe.Recipe`.
        model: The trained `keras.Model`.
        report: Its `evaluation.Report`.

    Returns:
        An `evaluation.Report`; the same one where the recipe asks for no heatmaps.
    """
    spec = recipe.explanation
    if spec.explain == "none":
        return report
    print(f"Explaining with {spec.explain}...", flush=True)
    rows = {
        "heatmaps": of_each_class(report.labels, spec.explained_per_class),
        "surest_mistakes": report.surest_mistakes(),
    }
    figures = {name: _panels(spec, model, report, chosen) for name, chosen in rows.items() if len(chosen)}
    return dataclasses.replace(
        report,
        heatmaps=f"Warm places speak for the predicted class ({spec.explain}{_of_layers(spec)}). The first "
        f"{spec.explained_per_class} images of each class on the {report.split} split, rightly classified or not.",
        heatmap_figures=figures,
        faithfulness=tuple(faithfulness(recipe, model, report)),
    )


def check(recipe, model):
    """Raises an `InputError` before the training where the heatmaps after it could not be made."""
    if recipe.explanation.explain not in ("none", "integrated-gradients"):
        for layer in recipe.explanation.explained_layer or (None,):
            explanation.feature_layer(model, layer)


def of_each_class(labels, count):
    """Rows of the first images of each class."""
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]).astype(int)


def _panels(spec, model, report, rows):
    method = explanation.METHODS[spec.explain]
    heatmaps = method(model, report.images[rows], layers=spec.explained_layer)
    names = [evaluation.shorten(name, NAME_LENGTH) for name in report.class_names]
    captions = [explanation.caption(report.probabilities[row], names, report.labels[row]) for row in rows]
    return explanation.panels(report.images[rows], heatmaps, captions, layers=spec.explained_layer)


def _of_layers(spec):
    return f" of {', '.join(spec.explained_layer)}, in this order" if spec.explained_layer else ""


def likeness(recipe, model, content, twin, images):
    """Whether a .tflite file has the float model's reasons: `{"heatmaps": {method: cosine and overlap}}`.

    Args:
        recipe: A `recipe.Recipe`; what asks for no heatmaps or no test of them gets an empty dict.
        model: The float `keras.Model`.
        content: Bytes of the file.
        twin: The fake-quantized model that an integer file was written from; else None.
        images: The judged images, of which some are taken.
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
        "heatmaps": {
            name: explanation.similarity(*(explanation.METHODS[name](one, images, targets) for one in (model, other)))
            for name, other in others.items()
        }
    }


def _some(recipe, count):
    """Rows of the images that heatmaps are judged on, drawn from the seed."""
    chosen = np.random.Generator(np.random.Philox(recipe.seed)).permutation(count)
    return np.sort(chosen[: recipe.explanation.faithfulness_images])


def faithfulness(recipe, model, report):
    """A dict a method, and one for random heatmaps, of how far each is to be believed."""
    rows = _some(recipe, len(report.labels))
    count = len(rows)
    if not count:
        return
    images, targets = report.images[rows], report.probabilities[rows].argmax(axis=1)

    def probabilities(changed):
        return explanation.probabilities(model, changed, batch_size=256)

    def judged(name, heatmaps, shuffled):
        found = explanation.judge_heatmaps(probabilities, images, heatmaps, targets, shuffled=shuffled)
        return {"method": name, "images": count, **dataclasses.asdict(found)}

    # The first of the layers whose heatmaps the report shows.
    shown = recipe.explanation.explained_layer
    for name, method in explanation.METHODS.items():
        print(f"Judging the heatmaps of {name}...", flush=True)
        where = {"layers": shown[0]} if shown and name != "integrated-gradients" else {}
        heatmaps = method(model, images, targets, **where)
        with explanation.weights_shuffled(model, SHUFFLING_SEED):
            shuffled = method(model, images, targets, **where)
        yield judged(name, heatmaps, shuffled)
    yield judged("random", explanation.random_heatmaps(count, images.shape[1:-1], seed=recipe.seed), None)
