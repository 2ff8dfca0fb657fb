"""A run with `--tta`: the section beside the plain metrics, `predict` of the run, and its test split read later."""

import csv
import io
import json

import cv2
import numpy as np
import pytest

from keras_vision import predict
from keras_vision.classifier import Classifier
from keras_vision.evaluation import judge
from keras_vision.pipeline import tested, track
from keras_vision.recipe import InputError, override


@pytest.fixture(scope="module")
def recipe(smoke_recipe):
    return override(smoke_recipe, tta="auto", vertical_flip=True, horizontal_flip=True, judge_on="val", epochs=1)


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return track.run(recipe, tmp_path_factory.mktemp("averaging") / "run")


@pytest.mark.slow
@pytest.mark.backend
def test_the_report_has_both_and_its_metrics_are_the_plain_ones(run):
    report, averaged = run.report, run.report.averaged
    plain, averaging = Classifier.open(run.folder), Classifier.open(run.folder, tta="auto")
    assert len(averaging.versions) == averaged.versions == 4
    images, labels = report.images, report.labels
    found = averaging.probabilities(images)
    by_hand = np.mean([plain.probabilities(one(images)) for one in averaging.versions], axis=0)
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    np.testing.assert_allclose(plain.probabilities(images), report.probabilities, atol=1e-5)
    assert np.abs(found - report.probabilities).max() > 1e-4
    expected = judge(labels, found, resamples=20).metrics
    whole = json.loads((run.folder / "report.json").read_text("utf-8"))
    for name, values in expected.items():
        assert whole["averaged"]["metrics"][name]["value"] == pytest.approx(values.value, abs=1e-3)
    assert whole["metrics"] == report.judgement.to_dict()
    assert whole["averaged"]["tta"] == "auto"
    assert 0 < whole["averaged"]["plain_milliseconds"] < whole["averaged"]["milliseconds"]
    page, card = ((run.folder / name).read_text("utf-8") for name in ("report.html", "README.md"))
    for text in (page, card, report.summary()):
        assert "Averaged over 4 versions of each image (itself, 1 turned, 2 mirrored): accuracy " in text
    assert "a phone does not average" in page


@pytest.mark.slow
def test_the_test_split_read_later_has_both(run, recipe):
    found = tested.judge(run.folder)
    assert found["metrics"].keys() == found["averaged_metrics"].keys()
    assert found["split"] == "test"


@pytest.mark.slow
def test_predict_says_that_it_averaged_and_marks_nothing_unsure(run, tmp_path, capsys):
    (run.folder / "unsure.json").write_text(json.dumps({"threshold": 0.99}), "utf-8")
    image = run.report.images[0]
    cv2.imwrite(str(tmp_path / "one.png"), image[..., ::-1])

    def answers(*flags):
        assert predict.main([str(run.folder), str(tmp_path), *flags]) == 0
        return capsys.readouterr()

    assert "unsure" in answers().out
    out, error = answers("--tta", "auto", "--json")
    row = json.loads(out)[0]
    assert row["averaged_over"] == 4
    expected = Classifier.open(run.folder, tta="flips").probabilities(image[np.newaxis])[0]
    assert list(row["scores"].values()) == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert "unsure" not in row
    assert error.startswith("note: averaged over 4 versions of each image (itself, 1 turned, 2 mirrored); ")
    assert " ms per image, without --tta " in error
    assert "No answer is marked unsure: the confidence for that was chosen without averaging." in error
    table = next(csv.DictReader(io.StringIO(answers("--tta", "all", "--csv").out)))
    assert table["averaged_over"] == "8"
    assert "unsure" not in table
    assert answers("--tta", "flip").out.count("\n") == 1


def test_predict_refuses_what_it_cannot_average(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"")
    words = ["int8.tflite", str(tmp_path), "--shards", "2", "--out", str(tmp_path / "out"), "--tta", "flip"]
    assert predict.main(words) == 2
    assert capsys.readouterr().err == "error: --tta has no effect with --shards, which predicts every image once.\n"


@pytest.mark.slow
def test_a_run_without_known_symmetries_is_refused_before_the_training(smoke_recipe, tmp_path):
    with pytest.raises(InputError, match="--tta auto takes flips and turns from the recipe's augmentation"):
        track.run(override(smoke_recipe, tta="auto"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
