"""`ensemble`: finished runs as one, and a network that learns what they say."""

import csv
import json

import numpy as np
import pytest

from keras_vision import derma, ensemble

SMALL = ["--data", "synthetic", "--smoke", "--width", "4", "--epochs", "1", "--explain", "none"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs of the same data, and one of other data."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (("a", ["--learning-rate", "0.01"]), ("b", ["--devices", "1"]), ("other", ["--seed", "1"])):
        assert derma.main([*SMALL, *more, "--out", str(folder / name)]) == 0
    return folder


def probabilities(run):
    rows = list(csv.DictReader((run / "predictions.csv").read_text("utf-8").splitlines()))
    names = [name for name in rows[0] if name.startswith("p_")]
    return np.array([[float(row[name]) for name in names] for row in rows])


@pytest.mark.slow
def test_an_ensemble_is_judged_like_a_run_and_teaches_one(runs, capsys):
    a, b, out = (str(runs / name) for name in ("a", "b", "both"))
    assert ensemble.main([a, b, "--out", out]) == 0
    expected = (probabilities(runs / "a") + probabilities(runs / "b")) / 2
    np.testing.assert_allclose(probabilities(runs / "both"), expected, atol=1e-5)
    report = json.loads((runs / "both" / "report.json").read_text("utf-8"))
    assert report["members"] == ["a", "b"]
    page = (runs / "both" / "report.html").read_text("utf-8")
    assert "the mean of the probabilities of a, b" in page
    assert "learning_curves" not in page
    assert "The mean of the probabilities of a, b" in (runs / "both" / "README.md").read_text("utf-8")
    capsys.readouterr()
    student = str(runs / "student")
    assert derma.main([*SMALL, "--teachers", out, "--teacher-share", "1", "--out", student]) == 0
    # With the teachers alone the labels do not matter, so it is another network than the same training without them.
    assert not np.allclose(probabilities(runs / "student"), probabilities(runs / "b"), atol=1e-5)


def test_runs_that_do_not_fit_together_are_refused(runs, tmp_path, capsys):
    a, other, out = str(runs / "a"), str(runs / "other"), str(tmp_path / "out")
    for words, reason in (
        ([a, other], "has other images in its splits"),
        ([a], "at least 2 runs"),
        ([a, a], "each run once"),
        ([a, str(tmp_path)], "is not a finished run"),
    ):
        assert ensemble.main([*words, "--out", out]) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    assert derma.main([*SMALL, "--teachers", other, "--out", out]) == 2
    assert "has other images in its splits" in capsys.readouterr().err
    # The data has changed since the run was trained.
    place = runs / "other" / "environment.json"
    place.write_text(place.read_text("utf-8").replace('"counts": {', '"counts": {"more": [1], '), "utf-8")
    assert ensemble.main([other, a, "--out", out]) == 2
    assert f"{other} has other images in its splits" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
