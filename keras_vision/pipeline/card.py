"""The model card, README.md: what a model hub shows of a run, below the YAML header that it reads.

Source: https://huggingface.co/docs/hub/model-cards and Mitchell et al. 2019, https://arxiv.org/abs/1810.03993
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline import unsure
from keras_vision.pipeline.labels_report import LabelsReport
from keras_vision.pipeline.report import Report
from keras_vision.pipeline.tables import counted, shown, words
from keras_vision.recipe import printable

# Names by which the hub knows licences, of those that data sets of images have.
LICENCES = {
    *("apache-2.0", "mit", "cc0-1.0", "odbl", "pddl"),
    *("cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
}
MOST_NAMED = 100  # Classes.


def write_card(report: Report, folder: Path) -> None:
    """Writes the model card into a run's folder."""
    (folder / run_folder.CARD).write_text(model_card(report), "utf-8")


def model_card(report: Report) -> str:
    """The card of a finished run: Markdown below a YAML header."""
    header = "\n".join(_yaml(_header(report)))
    return f"---\n{header}\n---\n\n" + "\n".join(_text(report))


def _header(report):
    name, split = _name(report), report.split
    task = {"type": "image-classification", "name": "Image classification"}
    found = [
        {"type": metric, "name": words(metric), "value": round(values.value, 4)}
        for metric, values in report.judgement.metrics.items()
        if math.isfinite(values.value)
    ]
    data = {"name": report.title, "type": _slug(report.title) or "data", "split": split}
    return {
        **_licence(str(report.data["licence"])),
        "library_name": "keras",
        # The hub's own page for trying a model out takes pictures.
        **({} if _is_volumes(report) else {"pipeline_tag": "image-classification"}),
        "tags": ["keras", "keras-vision", "image-classification", *(["tflite"] if report.files else [])],
        "metrics": [row["type"] for row in found],
        "model-index": [{"name": name, "results": [{"task": task, "dataset": data, "metrics": found}]}],
    }


def _licence(stated):
    """The licence of the data by the hub's names."""
    known = {"cc0": "cc0-1.0"}.get(_slug(stated), _slug(stated))
    if known in LICENCES:
        return {"license": known}
    return {"license": "other", "license_name": known if known not in ("", "unknown") else "not-stated"}


def _slug(text):
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60]


def _name(report):
    return f"{report.recipe['track']}-{report.recipe['name']}"


def _is_volumes(report):
    return report.images.ndim == 5


def _yaml(value, indent=""):
    """Lines of YAML for dicts, lists, texts and numbers; JSON's texts are YAML's where every character is printable."""
    if isinstance(value, dict):
        for key, part in value.items():
            if isinstance(part, dict | list):
                yield f"{indent}{key}:"
                yield from _yaml(part, f"{indent}  ")
            else:
                yield f"{indent}{key}: {_scalar(part)}"
        return
    for part in value:
        if isinstance(part, dict | list):
            first, *rest = _yaml(part, f"{indent}  ")
            yield f"{indent}- {first.strip()}"
            yield from rest
        else:
            yield f"{indent}- {_scalar(part)}"


def _scalar(value):
    return json.dumps(printable(value), ensure_ascii=False) if isinstance(value, str) else f"{value:.4f}"


def _text(report: Report) -> Iterator[str]:
    data, volumes = report.data, _is_volumes(report)
    several = isinstance(report, LabelsReport)
    what = "volumes" if volumes else "images"
    names = ", ".join(map(_plain, report.class_names[:MOST_NAMED]))
    more = ", ..." if len(report.class_names) > MOST_NAMED else ""
    yield f"# {_plain(_name(report))}\n"
    yield f"Classifies {what} of shape {tuple(report.images.shape[1:])}: {counted(len(report.class_names), 'class')}."
    yield f"\n{names}{more}\n"
    yield from _how_to_run(volumes)
    yield "\n## Intended use\n"
    yield f"{what.capitalize()} like those of its data set, {_plain(report.title)}. {_plain(data['description'])}."
    yield "It was not tested on others, from another camera, place or time: test it on yours before you rely on it."
    yield "\n## Limits\n"
    yield from (f"- {_plain(sentence)}" for sentence in report.findings())
    if not several:
        yield "- It gives one of its classes for every input, also for one that shows none of them."
    if report.selective is not None:
        yield f"- {unsure.sentence(report.selective, report.split)}"
    yield "- It is not a medical device."
    yield "\n## Data\n"
    called = "labels" if several else what
    counts = {name: sum(numbers) for name, numbers in data["counts"].items()}
    shares = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
    yield f"{_plain(report.title)}: {sum(counts.values()):,} {called}, {shares}."
    yield f"Licence of the data: {_plain(data['licence'])}, as in the header. The model's is its owner's choice."
    yield f"\n## Metrics\n\nOn the {report.split} split, {len(report.labels):,} {what}, with 95 % intervals.\n"
    yield "| metric | value |\n|---|---|"
    yield from (f"| {words(name)} | {shown(report.judgement.metrics[name])} |" for name in report.judgement.metrics)
    if report.averaged:
        yield f"\n{report.averaged.sentence(report.split, report.main)} The table is without averaging."
    if not several:
        yield f"\n![Confusion matrix]({run_folder.PLOTS}/confusion_matrix.png)"
    if report.files:
        yield "\n## Files for phones\n\n| file | bytes | " + f"{words(report.main)} |\n|---|---|---|"
        for file in report.files:
            place, value = run_folder.tflite_names(file.scheme)[0], file.agreement.judgement.metrics[report.main]
            yield f"| {place} | {file.audit.bytes:,} | {shown(value)} |"
    if kept := [one for one in report.exports if one.file]:
        yield "\n## Files for other runtimes\n\n| file | bytes | largest difference from the model |\n|---|---|---|"
        for one in kept:
            difference = "-" if one.largest_difference is None else f"{one.largest_difference:.1e}"
            yield f"| {run_folder.EXPORTS}/{one.file} | {one.bytes:,} | {difference} |"
    yield "\n## Training\n"
    versions = ", ".join(f"{name} {report.environment.get(name, 'unknown')}" for name in ("keras-vision", "keras"))
    epochs, used = counted(len(report.epochs), "epoch"), report.environment["backend"]
    if report.members:
        epochs = f"The mean of the probabilities of {', '.join(report.members)}"
    yield f"{epochs}, {report.parameters:,} parameters, on {used}; {versions}."
    yield f"`{run_folder.RECIPE}` has every setting, `{run_folder.ENVIRONMENT}` every version.\n"


def _how_to_run(volumes):
    yield "## How to run it\n"
    yield "In the folder of these files, with `pip install keras-vision`:\n"
    yield "```python"
    yield "import keras_vision as kv\n"
    yield 'model = kv.Classifier.open(".")'
    if volumes:
        yield "print(model.class_names)"
        yield "print(model.probabilities(volumes))  # Values from 0 to 255, shape (N, *model.image_shape)."
    else:
        yield 'for path, scores in model.predict(["photo.jpg"]):'
        yield "    print(path, model.labels_of(scores))"
    yield "```"


def _plain(text: Any) -> str:
    """A text as Markdown shows it."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", printable(str(text)))
