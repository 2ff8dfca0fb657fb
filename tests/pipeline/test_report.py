"""What a report says of a run: only what a test of the numbers shows, and in plain words."""

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keras_vision import evaluation
from keras_vision.data.data_report import DataReport, LeakRecord
from keras_vision.pipeline.heatmaps import explained_classes, of_each_class
from keras_vision.pipeline.report import Report
from keras_vision.pipeline.report_page import report_page, write_report
from keras_vision.pipeline.tflite_files import FileResult
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


def test_a_promise_that_the_test_split_breaks_is_reported():
    confidence = np.linspace(0.99, 0.51, 400)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    late = (np.arange(400) >= 300).astype(int)
    chosen = evaluation.choose_answer_threshold(late, probabilities, 0.05)
    kept, broken = (evaluation.judge_selective(chosen, labels, probabilities) for labels in (late, np.arange(400) % 2))
    assert said(report(selective=broken), "more than the 0.05 that validation promised")
    assert not said(report(selective=kept), "promised")
    assert report(selective=broken).to_dict()["unsure"]["error"]["value"] > 0.4


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


def many(classes, *, wrong=0, absent=(), **fields):
    """A report of two images of each class but of the absent ones; of the first classes one is taken for the next."""
    labels = np.repeat([label for label in range(classes) if label not in absent], 2)
    predicted = labels.copy()
    predicted[: 2 * wrong : 2] += 1
    probabilities = np.eye(classes)[predicted]
    found = {
        "judgement": evaluation.judge(labels, probabilities, resamples=5),
        "class_names": tuple(f"name {label}" for label in range(classes)),
        "labels": labels,
        "probabilities": probabilities,
        "images": np.zeros((len(labels), 4, 4, 3), np.uint8),
        "data": report().data | {"counts": {"train": [9] * classes, "val": [3] * classes, "test": [2] * classes}},
    }
    found["validation"] = found["judgement"]
    return report(**found | fields)


PNGS = dict.fromkeys(("learning_curves", "confusion_matrix", "reliability", "class_balance", "surest_mistakes"), b"")


def test_tables_of_many_classes_show_the_worst_and_say_how_many_there_are():
    found = many(300, wrong=50)
    page = report_page(found, PNGS)
    for line in ("The first 40 of 300 classes", "The first 20 of 50 pairs", "report.json has the whole matrix"):
        assert line in page
    table = page.partition('<section id="classes">')[2].partition("</table>")[0]
    # Each of the classes 1 to 49 lost an image and won one.
    assert [row.partition("</td>")[0] for row in table.split("<td>")[1:] if row.startswith("name")] == [
        f"name {label}" for label in range(1, 41)
    ]
    written = found.to_dict()
    assert len(written["classes"]) == len(written["confusion_matrix"]) == 300


def test_tables_of_few_classes_are_whole():
    page = report_page(many(12, wrong=3), PNGS)
    assert "The first" not in page
    assert all(f"<td>name {label}</td>" in page for label in range(12))


def test_the_page_grows_little_with_the_number_of_classes():
    sizes = [len(report_page(many(classes, wrong=classes // 2), PNGS)) for classes in (50, 400)]
    assert sizes[1] < 1.2 * sizes[0]


@pytest.mark.parametrize(("absent", "words"), [((2,), "1 of 9 classes has"), ((2, 4), "2 of 9 classes have")])
def test_classes_without_images_are_named_where_the_averages_are(absent, words):
    found = many(9, wrong=1, absent=absent)
    assert found.absent_classes == [f"name {label}" for label in absent]
    assert said(found, f"{words} no image in the test split ({', '.join(found.absent_classes)}): balanced accuracy")
    assert said(found, f"are means over the other {9 - len(absent)}.")
    assert words in found.summary()
    page = report_page(found, PNGS)
    for place in ('<section id="metrics">', "<header>"):
        assert words in page.partition(place)[2].partition("<section")[0]
    assert found.to_dict()["absent_classes"] == found.absent_classes
    # One image of the first class is missed, and the classes without images do not count.
    assert found.judgement.metrics["balanced_accuracy"].value == pytest.approx(1 - 0.5 / (9 - len(absent)))


def test_nothing_is_said_of_absent_classes_where_there_are_none():
    assert not said(many(9), "no image in")
    assert "no image in" not in report_page(many(9, wrong=1), PNGS)


def test_many_absent_classes_are_not_all_named():
    assert said(many(60, absent=range(20, 50)), "(name 20, name 21, name 22, name 23, name 24 and 25 more)")


def test_the_page_has_the_names_that_no_font_has_and_their_numbers(tmp_path):
    names = ("\u72ac\U00020000", "cat", "\u732b\U00020000")  # Beyond what any common font has.
    found = report(class_names=names)
    write_report(found, tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    for name in (f"{names[0]} (class 0)", "cat", f"{names[2]} (class 2)"):
        assert f"<td>{name}</td>" in page
    assert "Names that no installed font can draw" in page
    assert "Names that no installed font can draw" not in report_page(report(), PNGS)


@pytest.mark.parametrize(("classes", "explained"), [(20, range(20)), (21, range(20)), (300, range(20))])
def test_heatmaps_are_of_twenty_classes_at_most(classes, explained):
    # The first classes have the lowest F1, as one image of each is missed.
    found = many(classes, wrong=19)
    assert explained_classes(found) == list(explained)
    assert len(of_each_class(found.labels, 2, explained_classes(found))) == 40


def test_heatmaps_are_of_classes_with_images():
    assert explained_classes(many(9, absent=(0, 5))) == [1, 2, 3, 4, 6, 7, 8]


def test_the_table_of_what_files_change_shows_the_classes_that_change_most():
    found = many(60)
    scores = found.probabilities.copy()
    scores[2 * 55 : 2 * 55 + 2] = np.eye(60)[0]  # Both images of class 55 are lost.
    agreement = evaluation.agreement(found.labels, found.probabilities, scores, resamples=5)
    audit: Any = SimpleNamespace(kind="integers", bytes=10)
    file = FileResult("int8", audit, agreement, float_bytes=40, milliseconds={1: 1.0, 2: 1.0})
    page = report_page(dataclasses.replace(found, files=(file,)), PNGS)
    table = page.partition("the most changed first</h3>")[2]
    rows = table.partition("</table>")[0].split("<tr>")[2:]
    assert len(rows) == 40
    assert rows[0].startswith('<td>name 55</td><td class="number">-2 +0</td>')
    assert "The first 40 of 60 classes; report.json has all." in table.partition("</section>")[0]


@pytest.mark.parametrize(
    ("lost", "reason"),
    [(2, "smallest file whose accuracy is not measurably lower"), (40, "of every file is measurably")],
)
def test_the_file_to_take_is_not_called_as_good_as_the_model_where_it_is_worse(lost, reason):
    found = report()
    scores = found.probabilities.copy()
    scores[:lost] = np.roll(scores[:lost], 1, axis=1)  # Images that the model classifies correctly.
    agreement = evaluation.agreement(found.labels, found.probabilities, scores, resamples=5)
    audit: Any = SimpleNamespace(kind="integers", bytes=10)
    file = FileResult("int8", audit, agreement, float_bytes=40, milliseconds={1: 1.0, 2: 1.0})
    assert reason in report_page(dataclasses.replace(found, files=(file,)), PNGS)


def by_group(groups, **fields):
    """A report whose 600 images are of so many groups."""
    labels, probabilities = split(600, 360)
    names = np.array([f"P{number % groups}" for number in range(600)], object)
    judgement = evaluation.judge(labels, probabilities, groups=names, resamples=20)
    return report(judgement=judgement, data_report=DataReport(groups={"test": names}), **fields)


def test_intervals_by_group_say_so():
    found = by_group(12)
    words = "95 % intervals, resampled by group, 12 groups"
    assert words in found.summary()
    page = report_page(found, PNGS)
    assert words in page
    assert "test, 600 images in 12 groups (95 % interval)" in page
    assert "validation, 300 images (95 % interval)" in page
    assert found.to_dict()["groups"] == 12
    assert not said(found, "groups of images")


def test_intervals_by_image_are_described_as_before():
    assert "600 images (95 % intervals)" in report().summary()
    page = report_page(report(), PNGS)
    assert "95 % intervals over these images" in page
    assert "group" not in page.partition('<section id="settings">')[0]
    assert report().to_dict()["groups"] is None


def test_few_groups_are_pointed_out_and_one_has_no_intervals():
    assert said(by_group(9), "The test split has only 9 groups of images.")
    one = by_group(1)
    assert said(one, "All images of the test split are of one group, so there are no intervals")
    assert "nan" not in one.summary()
    assert "nan" not in report_page(one, PNGS)


def test_grades_have_quadratic_kappa_among_the_first_metrics():
    labels, probabilities = split(600, 360)
    judged = evaluation.judge(labels, probabilities, ordered=True, resamples=20)
    found = report(judgement=judged, validation=judged)
    kappa = f"{judged.metrics['quadratic_kappa'].value:.3f}"
    assert f"quadratic kappa    {kappa}" in found.summary()
    page = report_page(found, PNGS)
    assert f"<span>quadratic kappa</span><b>{kappa}</b>" in page.partition("<nav")[0]
    assert "quadratic kappa" in page.partition('<section id="metrics">')[2]
    assert found.to_dict()["metrics"]["quadratic_kappa"]["value"] == judged.metrics["quadratic_kappa"].value
    assert "quadratic kappa" not in report_page(report(), PNGS)


def test_a_harder_test_split_of_few_groups_is_not_claimed():
    labels, probabilities = split(600, 530)
    names = np.repeat([f"P{number}" for number in range(12)], 50)  # The mistakes are those of two patients.
    fields = {"val": (600, 580), "labels": labels, "probabilities": probabilities}
    by_image = report(judgement=evaluation.judge(labels, probabilities, resamples=20), **fields)
    grouped = report(judgement=evaluation.judge(labels, probabilities, groups=names, resamples=20), **fields)
    assert said(by_image, "The test split is harder than the validation split")
    assert not said(grouped, "than the validation split")
