"""Out-of-fold predictions: joined from runs, refused where they do not fit, and those of two small real runs."""

import csv
import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from keras_vision import data, derma
from keras_vision.data import folds
from keras_vision.pipeline import out_of_fold, predictions, track
from keras_vision.recipe import InputError, override

# Two folds of two classes: three images of which two are right, and two of which one is.
RIGHT = {
    1: [(0, "x", 0, 0.9), (2, "x", 1, 0.3), (3, "y", 0, 0.4)],
    2: [(1, "z", 0, 0.8), (4, "z", 1, 0.7)],
}


def written(tmp_path, rows=RIGHT, change=None, groups=True, **changes):
    """Folders of runs with these rows: number, group, label, probability of class 0."""
    runs = {}
    for number, part in rows.items():
        runs[number] = tmp_path / f"run{number}"
        runs[number].mkdir(parents=True)
        accuracy = float(np.mean([(p >= 0.5) == (label == 0) for _, _, label, p in RIGHT[number]]))
        report = {
            "split": "test",
            "fold": {"number": number, "count": 2, "images": 5, "unused": 0},
            "class_names": ["a", "b"],
            "data": {"files": {"toy.npz": "0"}},
            "main_metric": "accuracy",
            "metrics": {"accuracy": {"value": accuracy}, "auc": {"value": None}},
            "absent_classes": [],
            "recipe": {"seed": 0, "evaluation": {"bootstrap": 20}},
        }
        if number == 2:
            report |= changes
        (runs[number] / "report.json").write_text(json.dumps(report))
        lines = ["row,group,image_sha256,label,predicted,p_0,p_1"]
        lines += [f"{row},{group},h{row},{label},{int(p < 0.5)},{p},{1 - p}" for row, group, label, p in part]
        text = "\n".join(lines) + "\n"
        (runs[number] / "predictions.csv").write_text(text if groups else text.replace(",group", ",other"))
    return runs


def test_metrics_are_over_all_images_and_over_folds(tmp_path):
    found = out_of_fold.join("x.csv", written(tmp_path))
    assert found.judgement.metrics["accuracy"].value == pytest.approx(3 / 5)
    assert found.judgement.groups == 3
    assert found.by_fold["accuracy"].value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert np.isnan(found.by_fold["auc"].value)
    rows = list(csv.DictReader(found.to_csv().splitlines()))
    assert [(row["row"], row["fold"], row["image_sha256"]) for row in rows] == [
        ("0", "1", "h0"), ("1", "2", "h1"), ("2", "1", "h2"), ("3", "1", "h3"), ("4", "2", "h4"),
    ]  # fmt: skip
    assert rows[2]["p_0"] == "0.3"
    assert out_of_fold.join("x.csv", written(tmp_path / "plain", groups=False)).judgement.groups is None


def with_rows(number, *rows):
    return {**RIGHT, number: list(rows)}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            with_rows(2, (1, "z", 0, 0.8), (3, "z", 1, 0.7)),
            "number 3 is predicted twice, in fold 1 and in fold 2",
        ),
        (
            with_rows(2, (1, "z", 0, 0.8), (1, "z", 1, 0.7)),
            "number 1 is predicted twice, in fold 2 and in fold 2",
        ),
        (with_rows(2, (1, "z", 0, 0.8)), "1 image of 5 have no prediction, the first is number 4"),
        (with_rows(2, (1, "z", 0, 0.8), (5, "z", 1, 0.7)), "the first is number 4"),
        (with_rows(2, (1, "x", 0, 0.8), (4, "z", 1, 0.7)), "group 'x' is in fold 1 and in fold 2"),
        (with_rows(2, (1, "z", 0, 0.8), (4, "z", 1, 0.2)), "do not give the metrics of its report"),
        (with_rows(2, (1, "z", 0, 0.8), ("four", "z", 1, 0.7)), "is not a complete run"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(rows, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        out_of_fold.join("x.csv", written(tmp_path, rows))
    assert "InputError" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fold": None}, "was not judged on fold 2 of 2"),
        ({"split": "val"}, "was not judged on fold 2 of 2"),
        ({"fold": {"number": 2, "count": 3, "images": 5}}, "was not judged on fold 2 of 2"),
        ({"fold": {"number": 2, "count": 2, "images": 6}}, "trained on other images"),
        ({"data": {"files": {"toy.npz": "1"}}}, "trained on other files"),
        ({"class_names": ["b", "a"]}, "trained on other classes"),
    ],
)
def test_runs_that_are_not_folds_of_one_division_are_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        out_of_fold.join("x.csv", written(tmp_path, **changes))


def test_the_predictions_of_folds_are_those_of_every_image_of_the_data(tmp_path):
    """Written as a run writes them, by models that guess."""
    rng = np.random.default_rng(0)
    parts = [
        data.Split(rng.integers(0, 256, (count, 4, 4, 1), np.uint8), np.arange(count) % 3) for count in (40, 12, 9)
    ]
    whole = data.Splits(*parts, ("a", "b", "c"), data.Source("toy", "Noise", "CC0-1.0"))
    runs = {number: tmp_path / str(number) for number in (1, 2, 3)}
    for number, out in runs.items():
        splits = folds.held_out(whole, number, 3, share=0.1, seed=0, where="toy")
        labels = splits.test.labels
        probabilities = rng.dirichlet(np.ones(3), len(labels))
        report = SimpleNamespace(
            images=splits.test.images,
            labels=labels,
            probabilities=probabilities,
            fold=splits.fold,
            split="test",
            names=None,
            groups=None,
        )
        report.decisions = lambda row, known=labels, p=probabilities: ([known[row]], [p[row].argmax()])
        accuracy = float(np.mean(probabilities.argmax(axis=1) == labels))
        content = {
            "split": "test",
            "fold": splits.fold.to_dict(),
            "class_names": splits.class_names,
            "data": {"files": {}},
            "main_metric": "accuracy",
            "metrics": {"accuracy": {"value": accuracy}},
            "absent_classes": [],
            "recipe": {"seed": 0, "evaluation": {"bootstrap": 20}},
        }
        out.mkdir()
        (out / "report.json").write_text(json.dumps(content))
        with (out / "predictions.csv").open("w", newline="") as file:
            predictions.write(report, file)
    found = out_of_fold.join("x.csv", runs)
    images = [*whole.train.images, *whole.val.images]
    rows = list(csv.DictReader(found.to_csv().splitlines()))
    assert [row["image_sha256"] for row in rows] == [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    assert [int(row["label"]) for row in rows] == [*whole.train.labels, *whole.val.labels]


@pytest.mark.slow
def test_two_small_runs_of_images_with_several_labels_are_joined_with_the_thresholds_of_each(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.stack([np.arange(60) % 2, np.arange(60) // 2 % 2], axis=1)
    images = rng.integers(0, 100, (60, 16, 16), dtype=np.uint8) + 100 * labels[:, :1, None].astype(np.uint8)
    arrays = {}
    for name, rows in (("train", slice(40)), ("val", slice(40, 50)), ("test", slice(50, 60))):
        arrays |= {f"{name}_images": images[rows], f"{name}_labels": labels[rows]}
    np.savez(tmp_path / "toy.npz", **arrays)
    recipe = override(
        derma.RECIPES["baseline"], data=str(tmp_path / "toy.npz"), epochs=1, width=2, explain="none", bootstrap=10
    )
    runs = {number: tmp_path / str(number) for number in (1, 2)}
    accuracies = [
        track.run(override(recipe, fold=f"{number}/2"), out).report.judgement.metrics["exact_match"].value
        for number, out in runs.items()
    ]
    found = out_of_fold.join("x.csv", runs)
    assert found.judgement.images == 50
    assert found.judgement.metrics["exact_match"].value == pytest.approx(np.mean(accuracies))  # Folds of 25 each.
    assert found.plots().keys() == {"labels", "reliability"}
