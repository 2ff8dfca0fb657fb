"""The model card: a header that hubs read, whatever the data is called, and no claim that the run does not support."""

import ast
import dataclasses
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from keras_vision import evaluation
from keras_vision.pipeline import card
from keras_vision.pipeline import folder as run_folder
from keras_vision.pipeline.labels_report import LabelsReport
from keras_vision.pipeline.report import Report
from keras_vision.pipeline.tflite_files import FileResult
from keras_vision.recipe import Recipe, override

LABELS = np.arange(12) % 3
PROBABILITIES = np.eye(3)[np.where(np.arange(12) < 9, LABELS, (LABELS + 1) % 3)] * 0.7 + 0.1


def report(kind: Any = Report, *, name="dogs", licence="CC BY 4.0", images=(8, 8, 3), **fields):
    judgement = evaluation.judge(LABELS, PROBABILITIES, resamples=20)
    found = {
        "track": "derma, recipe baseline",
        "recipe": dataclasses.asdict(override(Recipe(), data="photos/")),
        "environment": {"backend": "torch", "keras": "3.15.1"},
        "data": {"name": name, "description": "Photos", "licence": licence, "counts": {"train": [9, 8, 7]}},
        "class_names": ("beagle", "a|b", "<b>*poodle*</b>"),
        "epochs": ({"loss": 1.0, "val_loss": 1.0},),
        "best_epoch": 1,
        "train_seconds": 60.0,
        "parameters": 1000,
        "split": "test",
        "judgement": judgement,
        "validation": judgement,
        "training_correct": 9,
        "training_images": 12,
        "labels": LABELS,
        "probabilities": PROBABILITIES,
        "images": np.zeros((12, *images), np.uint8),
    }
    return kind(**(found | fields))


def header(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_header_has_licence_data_and_metrics():
    found = header(card.model_card(report()))
    assert (found["license"], found["library_name"], found["pipeline_tag"]) == (
        "cc-by-4.0",
        "keras",
        "image-classification",
    )
    (model,) = found["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {"name": "dogs", "type": "dogs", "split": "test"}
    assert {"type": "accuracy", "name": "accuracy", "value": 0.75} in result["metrics"]
    assert found["metrics"] == [row["type"] for row in result["metrics"]]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("CC BY-NC 4.0", {"license": "cc-by-nc-4.0"}),
        ("CC0", {"license": "cc0-1.0"}),
        ("unknown", {"license": "other", "license_name": "not-stated"}),
        ("CC BY, by the photographers", {"license": "other", "license_name": "cc-by-by-the-photographers"}),
    ],
)
def test_a_licence_has_the_hubs_name_or_is_another(stated, expected):
    found = header(card.model_card(report(licence=stated)))
    assert {key: found[key] for key in ("license", "license_name") if key in found} == expected


@pytest.mark.parametrize(
    "name", ["yes", "a: b", '"quoted" \\ #', "---", "- 1", "ä\U0001f600", "1e3", "&x *y", "", "[]"]
)
def test_a_name_comes_back_from_the_header(name):
    found = header(card.model_card(report(name=name)))
    assert found["model-index"][0]["results"][0]["dataset"]["name"] == name


def test_a_control_character_cannot_break_the_header():
    found = header(card.model_card(report(name="a\n---\nb\x85\ud800")))
    assert found["model-index"][0]["results"][0]["dataset"]["name"] == "a?---?b??"


def test_names_are_shown_and_not_rendered():
    text = card.model_card(report())
    assert r"beagle, a\|b, \<b\>\*poodle\*\</b\>" in text


def test_a_metric_that_is_not_defined_is_left_out_of_the_header():
    judgement = report().judgement
    nothing = evaluation.Interval(float("nan"), float("nan"), float("nan"))
    without = dataclasses.replace(judgement, metrics={**judgement.metrics, "auc": nothing})
    text = card.model_card(report(judgement=without))
    assert "auc" not in header(text)["metrics"]
    assert "| AUC | none |" in text


def test_the_lines_to_run_it_are_python():
    for images in ((8, 8, 3), (4, 8, 8, 1)):
        (code,) = re.findall(r"```python\n(.*?)```", card.model_card(report(images=images)), re.DOTALL)
        ast.parse(code)
        assert len([line for line in code.splitlines() if line]) == 4


def test_volumes_have_no_page_for_pictures():
    text = card.model_card(report(images=(4, 8, 8, 1)))
    assert "pipeline_tag" not in header(text)
    assert "Classifies volumes of shape (4, 8, 8, 1): 3 classes." in text


def test_several_labels_are_no_classes_that_exclude_each_other():
    labels, scores = np.eye(3, dtype=int)[LABELS], PROBABILITIES
    judgement = evaluation.judge_labels(labels, scores, np.full(3, 0.5), resamples=20)
    several = {"labels": labels, "judgement": judgement, "validation": judgement}
    text = card.model_card(report(LabelsReport, **several))
    assert "exact match" in text
    assert "dogs: 24 labels, 24 in train." in text
    assert "gives one of its classes" not in text
    assert "confusion_matrix" not in text


def test_files_are_listed_with_what_they_cost():
    agreement = evaluation.agreement(LABELS, PROBABILITIES, PROBABILITIES, resamples=5)
    audit: Any = SimpleNamespace(kind="integers", bytes=1234)
    file = FileResult("int8", audit, agreement, float_bytes=None, milliseconds={1: 1.0, 2: 1.0})
    text = card.model_card(report(files=(file,)))
    assert "| tflite/int8.tflite | 1,234 | 0.750" in text
    assert "tflite" in header(text)["tags"]


def test_the_plots_of_a_card_are_published():
    named = re.findall(r"\]\((plots/.*?)\)", card.model_card(report()))
    assert named
    assert set(named) <= run_folder.OPEN_FILES


def test_the_hubs_own_reader_reads_it():
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface-hub")
    found = hub.ModelCard(card.model_card(report()))
    assert found.data.license == "cc-by-4.0"
    assert found.data.model_name == "run-baseline"
    results = {result.metric_type: result for result in found.data.eval_results}
    assert results["accuracy"].metric_value == 0.75
    assert results["accuracy"].dataset_name == "dogs"
    assert results["accuracy"].task_type == "image-classification"
    # What it would write is what it has read.
    assert hub.ModelCard(str(found)).data.to_dict() == found.data.to_dict()
