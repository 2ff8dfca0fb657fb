"""A whole run on images with several labels, and what people do with its files."""

import csv
import json

import cv2
import keras
import numpy as np
import pytest
from medmnist import INFO
from sklearn import metrics

from keras_vision import compare, convert, derma, explain, predict, quantization
from keras_vision.classifier import Classifier
from keras_vision.quantization.metadata import read_metadata

NAMES = ("left", "right", "below")
pytestmark = pytest.mark.slow


def drawn(count, seed):
    """Gray images with a bright square at the place of each label that they have, and the labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((count, 3)) < (0.5, 0.3, 0.2)).astype(np.uint8)
    images = rng.integers(0, 60, (count, 16, 16), dtype=np.uint8)
    for label, (row, column) in enumerate(((2, 2), (2, 9), (10, 5))):
        images[labels[:, label] == 1, row : row + 5, column : column + 5] += 150
    return images, labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with heatmaps and files."""
    folder = tmp_path_factory.mktemp("labels")
    arrays = {}
    for seed, (split, count) in enumerate((("train", 240), ("val", 80), ("test", 100))):
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = drawn(count, seed)
    np.savez(folder / "squares.npz", **arrays)
    (folder / "squares.labels.txt").write_text("\n".join(NAMES), "utf-8")
    flags = ["--epochs", "12", "--width", "8", "--batch-size", "16", "--patience", "0", "--bootstrap", "50"]
    flags += ["--explain", "grad-cam", "--faithfulness-images", "0", "--explained-per-class", "1"]
    flags += ["--qat", "--qat-epochs", "1", "--class-weight", "0.5"]
    out = folder / "run"
    assert derma.main(["--data", str(folder / "squares.npz"), "--out", str(out), *flags]) == 0
    return out


@pytest.fixture(scope="module")
def report(run):
    return json.loads((run / "report.json").read_text("utf-8"))


@pytest.mark.backend
def test_the_report_is_of_labels(run, report):
    assert report["main_metric"] == "exact_match"
    assert report["metrics"]["auc"]["value"] > 0.9
    assert "confusion_matrix" not in report
    assert {row["name"] for row in report["classes"]} == set(NAMES)
    assert report["thresholds"] == json.loads((run / "thresholds.json").read_text("utf-8"))
    assert report["unsure"] is None
    assert not (run / "unsure.json").exists()
    page = (run / "report.html").read_text("utf-8")
    assert "exact match" in page
    assert "no image is called unsure" in page
    assert "Take " in page
    assert {path.stem for path in (run / "plots").iterdir()} >= {"labels", "heatmaps", "class_balance"}


@pytest.mark.backend
def test_predictions_are_those_of_the_metrics(run, report):
    with (run / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    truth, answers = (
        np.array([[str(label) in row[name].split("|") for label in range(3)] for row in rows])
        for name in ("label", "predicted")
    )
    np.testing.assert_array_equal(truth, drawn(100, 2)[1])
    assert report["metrics"]["exact_match"]["value"] == pytest.approx(metrics.accuracy_score(truth, answers))
    assert report["metrics"]["macro_f1"]["value"] == pytest.approx(metrics.f1_score(truth, answers, average="macro"))
    scores = np.array([[float(row[f"p_{label}"]) for label in range(3)] for row in rows])
    assert report["metrics"]["auc"]["value"] == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-4)
    thresholds = np.array(list(report["thresholds"].values()))
    np.testing.assert_array_equal(scores >= thresholds, answers)


@pytest.mark.backend
def test_the_model_and_its_files_give_scores_for_each_label(run, report):
    images, truth = drawn(100, 2)
    images = images[..., None]
    model = Classifier.open(run)
    scores = model.probabilities(images)
    assert (scores.sum(axis=1) > 1.2).any()
    assert model.thresholds.tolist() == pytest.approx(list(report["thresholds"].values()))
    plain = keras.models.load_model(run / "model.keras").predict(images, verbose=0)
    np.testing.assert_allclose(plain, scores, atol=1e-6)
    assert {row["scheme"] for row in report["tflite"]} == set(quantization.SCHEMES)
    for row in report["tflite"]:
        file = Classifier.open(run / row["file"])
        assert file.class_names == NAMES
        assert file.thresholds.tolist() == pytest.approx(model.thresholds.tolist())
        found = file.probabilities(images)
        tolerance = {"float32": 1e-4, "dynamic": 0.1}.get(row["scheme"], 0.15)
        assert np.abs(found - scores).max() < tolerance
        right = (file.answers(found) == truth).all(axis=1).mean()
        assert row["metrics"]["exact_match"]["value"] == pytest.approx(right)
        if row["scheme"] in quantization.INTEGER_SCHEMES:
            content = (run / row["file"]).read_bytes()
            quantization.audit(content).require_full_integer()
            assert read_metadata(content).labels == NAMES
            assert row["simulation"]["within_a_step"] == 1


@pytest.mark.backend
def test_commands_name_every_label(run, tmp_path, capsys):
    images, truth = drawn(100, 2)
    both = int(np.flatnonzero((truth == (1, 1, 0)).all(axis=1))[0])
    none = int(np.flatnonzero((truth == 0).all(axis=1))[0])
    for number in (both, none):
        cv2.imwrite(str(tmp_path / f"{number}.png"), images[number])
    for model in (run, run / "tflite" / "qat.tflite"):
        capsys.readouterr()
        assert predict.main([str(model), str(tmp_path / f"{both}.png"), str(tmp_path / f"{none}.png"), "--json"]) == 0
        first, second = json.loads(capsys.readouterr().out)
        assert set(first["labels"]) == {"left", "right"}
        assert second["labels"] == []
        assert predict.main([str(model), str(tmp_path / f"{none}.png")]) == 0
        assert "no label, " in capsys.readouterr().out
    out = tmp_path / "explained"
    assert explain.main([str(run), str(tmp_path / f"{both}.png"), "--class", "right", "--out", str(out)]) == 0
    assert len(list(out.iterdir())) == 1


@pytest.mark.backend
def test_the_model_is_converted_again_and_compared(run, tmp_path, capsys):
    data = str(run.parent / "squares.npz")
    flags = ["--images", data, "--schemes", "int8", "--out", str(tmp_path / "files"), "--backend"]
    assert convert.main([str(run), *flags, keras.backend.backend()]) == 0
    card = json.loads((tmp_path / "files" / "int8.json").read_text("utf-8"))
    assert card["thresholds"].keys() == set(NAMES)
    assert card["same_class"]["value"] > 0.8
    assert card["accuracy"]["value"] > 0.5
    page = tmp_path / "compare.html"
    assert compare.main([str(run), str(run), "--out", str(page)]) == 0
    assert "exact match" in capsys.readouterr().out


def test_chestmnist_in_smoke_size(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 60), ("val", 30), ("test", 40)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (rng.random((count, 14)) < 0.2).astype(np.uint8)
    arrays["test_labels"][:, 3] = 0  # No image has this finding,
    arrays["val_labels"][:, 5] = 1  # and every image this one.
    np.savez(tmp_path / "chestmnist.npz", **arrays)
    out = tmp_path / "run"
    assert derma.main(["--data", str(tmp_path / "chestmnist.npz"), "--smoke", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["class_names"] == [name for _, name in sorted(INFO["chestmnist"]["label"].items(), key=number)]
    assert "1 of 14 labels are on no image of the test split (infiltration)" in " ".join(report["findings"])
    assert report["classes"][3]["auc"]["value"] is None
    assert report["metrics"]["auc"]["value"] > 0


def number(item):
    return int(item[0])
