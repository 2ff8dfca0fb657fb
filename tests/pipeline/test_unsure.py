"""Where a run's model and its files are unsure: recorded, judged by their own scores, and said in plain words."""

import json

import numpy as np
import pytest

from keras_vision import derma, evaluation
from keras_vision.classifier import Classifier
from keras_vision.pipeline import unsure


def images(count):
    """Labels and images of two classes, darker and brighter ones, that overlap a little."""
    rng = np.random.default_rng(count)
    labels = np.arange(count) % 2
    level = np.clip(70 + 100 * labels + rng.normal(0, 30, count), 0, 200)
    noise = rng.integers(0, 50, (count, 16, 16, 3))
    return labels.astype(np.uint8)[:, np.newaxis], (level[:, None, None, None] + noise).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with files, its logits divided by a temperature."""
    folder = tmp_path_factory.mktemp("unsure")
    arrays = {}
    for split, count in (("train", 300), ("val", 200), ("test", 301)):
        arrays[f"{split}_labels"], arrays[f"{split}_images"] = images(count)
    np.savez(folder / "levels.npz", **arrays)
    flags = ["--epochs", "6", "--width", "4", "--batch-size", "16", "--learning-rate", "0.01", "--bootstrap", "20"]
    flags += ["--patience", "0", "--explain", "none", "--tflite", "--calibrate", "--target-error", "0.06"]
    assert derma.main(["--data", str(folder / "levels.npz"), "--out", str(folder / "run"), *flags]) == 0
    return folder / "run"


@pytest.mark.slow
def test_the_model_and_each_file_are_unsure_by_their_own_scores(run):
    whole = json.loads((run / "report.json").read_text("utf-8"))
    assert whole["temperature"] is not None
    assert json.loads((run / "unsure.json").read_text("utf-8")) == whole["unsure"]
    stated = {run: whole["unsure"]}
    for row in whole["tflite"]:
        file = run / row["file"]
        assert json.loads(file.with_suffix(".json").read_text("utf-8"))["unsure"] == row["unsure"]
        stated[file] = row["unsure"]
    assert len(stated) >= 2
    (val_labels, val_images), (labels, pixels) = images(200), images(301)
    for path, found in stated.items():
        model = Classifier.open(path)
        chosen = evaluation.choose_answer_threshold(val_labels[:, 0], model.probabilities(val_images), 0.06)
        assert model.unsure_below == found["threshold"] == pytest.approx(chosen.value, abs=1e-5)
        assert 0 < found["validation"]["answered"] < 200
        scores = model.probabilities(pixels)
        sure = np.array([not model.is_unsure(row) for row in scores])
        assert found["answered"]["value"] == pytest.approx(sure.mean(), abs=0.01)
        assert found["error"]["value"] == pytest.approx((scores.argmax(axis=1) != labels[:, 0])[sure].mean(), abs=0.01)
    thresholds = {found["threshold"] for found in stated.values()}
    assert len(thresholds) > 1  # 8-bit scores are not the float model's.


@pytest.mark.slow
def test_the_threshold_is_in_report_and_card(run):
    page, card = ((run / name).read_text("utf-8") for name in ("report.html", "README.md"))
    assert "Where it is unsure" in page
    assert "int8.tflite" in page
    assert "- Below a confidence of 0." in card
    assert "promised: at most 6 % wrong, with 95 % certainty" in card


def selective(wrong, count=400, target=0.05):
    """A threshold from images of which so many, the least confident, are misclassified, on the same images."""
    confidence = np.linspace(0.99, 0.51, count)
    labels = (np.arange(count) >= count - wrong).astype(int)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    chosen = evaluation.choose_answer_threshold(labels, probabilities, target)
    return chosen, evaluation.judge_selective(chosen, labels, probabilities), probabilities


def test_the_sentence_says_what_is_promised_and_what_was_found():
    assert unsure.sentence(selective(100)[1], "test").startswith("Below a confidence of 0.620 it is unsure.")
    assert unsure.sentence(selective(100)[1], "test").endswith(
        "of these answers are wrong; promised: at most 5 % wrong, with 95 % certainty."
    )
    assert unsure.sentence(selective(0)[1], "test") == (
        "On the test split it answers every image, and 0.0 % (0.0 to 1.0) of these answers are wrong; promised: at "
        "most 5 % wrong, with 95 % certainty."
    )
    assert unsure.sentence(selective(0, count=20)[1], "test") == (
        "No confidence below which it is unsure. The validation split has 20 images. To promise an error of at most "
        "0.05 at least 59 are needed, without a mistake among the most confident."
    )
