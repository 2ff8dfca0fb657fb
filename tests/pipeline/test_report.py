"""What a report says of a run: only what a test of the numbers shows, and in plain words."""

import dataclasses
import json

import numpy as np
import pytest

from keras_vision import evaluation
from keras_vision.data.data_report import DataReport, LeakRecord
from keras_vision.pipeline.report import Report
from keras_vision.pipeline.report_page import report_page, write_report
from keras_vision.recipe import Recipe
from keras_vision.training import Profile


def split(count, correct, classes=3):
    """Labels and probabilities of so many images, of which so many are classified correctly."""
    labels = np.arange(count) % classes
    predicted = np.where(np.arange(count) < correct, labels, (labels + 1) % classes)
    return labels, np.eye(classes)[predicted] * 0.7 + 0.1


def report(*, train=(500, 300), val=(300, 180), test=(600, 360), **fields):
    """A report of splits of so many images, of which so many are classified correctly."""
    labels, probabilities = split(*test)
    return Report(
        **{
            "track": "derma, recipe baseline",
            "recipe": dataclasses.asdict(Recipe()),
            "environment": {"backend": "torch"},
            "data": {
                "name": "dogs",
                "description": "Photos of dogs",
                "licence": "CC0",
                "files": {},
                "counts": {"train": [9, 9, 9], "val": [3, 3, 3], "test": [6, 6, 6]},
            },
            "class_names": ("beagle", "collie", "<b>poodle</b>"),
            "epochs": ({"loss": 1.0, "val_loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.5},),
            "best_epoch": 1,
            "train_seconds": 60.0,
            "parameters": 1000,
            "split": "test",
            "judgement": evaluation.judge(labels, probabilities, resamples=20),
            "validation": evaluation.judge(*split(*val), resamples=20),
            "training_correct": train[1],
            "training_images": train[0],
            "labels": labels,
            "probabilities": probabilities,
            "images": np.zeros((len(labels), 8, 8, 3), np.uint8),
        }
        | fields
    )


def said(found, phrase):
    return any(phrase in sentence for sentence in found.findings())


@pytest.mark.parametrize(
    ("train", "val", "overfits"),
    [
        ((1000, 30), (200, 5), False),  # .030 and .025
        ((1000, 966), (1000, 966), False),
        ((1000, 966), (600, 533), True),  # .966 and .888
        ((1000, 533), (600, 580), False),  # The other way round.
    ],
)
def test_overfitting_is_reported_where_a_test_shows_it(train, val, overfits):
    found = report(train=train, val=val, test=val)
    assert said(found, "Overfitting: ") == overfits
    assert any("Against overfitting" in sentence for sentence in found.advice()) == overfits


@pytest.mark.parametrize(
    ("val", "test", "word"),
    [((600, 580), (1200, 1066), "harder"), ((600, 480), (1200, 1150), "easier"), ((600, 580), (1200, 1159), None)],
)
def test_a_test_split_unlike_validation_is_reported_where_a_test_shows_it(val, test, word):
    found = report(train=val, val=val, test=test)
    assert said(found, f"The test split is {word} than the validation split") == (word is not None)
    assert said(found, "than the validation split") == (word is not None)


def test_the_split_that_choices_are_made_on_is_not_compared_with_itself():
    assert report(split="val").shift is None


def test_no_better_than_the_most_frequent_class_is_reported():
    assert report(test=(600, 200)).majority == ("beagle", 1 / 3)
    assert said(report(test=(600, 200)), "is not clearly above the 0.333 of always predicting")
    assert not said(report(test=(600, 400)), "is not clearly above")


def test_the_weakest_class_and_what_it_is_taken_for_are_named():
    labels = np.array([0] * 10 + [1] * 10)
    probabilities = np.eye(2)[[0] * 10 + [0] * 7 + [1] * 3]
    judgement = evaluation.judge(labels, probabilities, resamples=20)
    found = report(judgement=judgement, labels=labels, probabilities=probabilities, class_names=("cat", "dog"))
    assert said(found, "Weakest class: dog, of which 30% of 10 images are found; most often it is classified as cat (7")
    judgement = evaluation.judge(labels, np.eye(2)[labels], resamples=20)
    assert not said(report(judgement=judgement, labels=labels, class_names=("cat", "dog")), "Weakest")


def test_leaks_are_reported_until_they_are_dropped():
    leak = LeakRecord(("train", "test"), ("a.png", "b.png"), 1.0, True, True)
    assert said(report(data_report=DataReport(leaks=(leak,))), "1 pair of equal or nearly equal images in two splits")
    assert not said(report(data_report=DataReport(leaks=(leak,), dropped=1)), "in two splits")
    assert not said(report(data_report=DataReport(leaks=())), "in two splits")


def test_the_page_is_titled_by_the_data_and_shows_no_tag_of_a_class_name(tmp_path):
    found = report()
    write_report(found, tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<h1>dogs</h1>" in page
    assert "<title>dogs</title>" in page
    assert "<b>poodle</b>" not in page
    assert "&lt;b&gt;poodle&lt;/b&gt;" in page
    first = page.partition('<nav aria-label="Contents">')[0]
    for answer in ("0.600", "always predicting", "Photos of dogs", "Weakest class", "--seed 1"):
        assert answer in first
    links = {part.partition('"')[0] for part in page.split('href="#')[1:]}
    assert links
    assert all(f'<section id="{link}">' in page for link in links)
    assert "<script" not in page


def test_a_profile_is_in_the_page_the_json_and_the_summary(tmp_path):
    profile = Profile((30.0,) * 5, (10.0,) * 5, (0.0,) * 5, 0.0, 0.0, 5)
    found = report(profile=profile)
    write_report(found, tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<h3>Where the time of an epoch goes</h3>" in page
    assert profile.summary() in page
    assert "75.0%" in page
    assert (tmp_path / "plots" / "profile.png").stat().st_size > 0
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["profile"] == profile.to_dict()
    assert profile.summary() in found.summary().splitlines()
    assert report().to_dict()["profile"] is None


def test_sections_without_content_are_left_out():
    pngs = dict.fromkeys(("learning_curves", "confusion_matrix", "reliability", "class_balance"), b"")
    page = report_page(report(), pngs)
    for anchor in ("detection", "heatmaps", "files"):
        assert f'id="{anchor}"' not in page
