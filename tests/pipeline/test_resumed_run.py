"""A whole run that is interrupted in one stage after the other."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_vision import derma, explanation, quantization
from keras_vision.pipeline import track
from keras_vision.recipe import override, smoke

pytestmark = pytest.mark.slow
RECIPE = override(
    smoke(override(derma.RECIPES["baseline"], data="synthetic", qat=True)),
    width=4,
    limit=42,
    qat_epochs=2,
    faithfulness_images=4,
    bootstrap=20,
)


def result_of(folder):
    """What a run leaves, without times."""
    with (folder / "history.csv").open(newline="") as file:
        history = [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    report = json.loads((folder / "report.json").read_text("utf-8"))
    files = [
        {name: value for name, value in row.items() if name not in ("milliseconds", "bytes", "bytes_ratio")}
        for row in report["tflite"]
    ]
    return history, (folder / "predictions.csv").read_text(), report["metrics"], report["faithfulness"], files


def test_a_run_interrupted_in_every_stage_is_the_uninterrupted_run(tmp_path, monkeypatch):
    expected = track.run(RECIPE, tmp_path / "whole")
    calls = []

    def interrupt_once(module, name, *, at=1):
        """Lets a function stop the program at one of its calls, before it does anything."""
        original = getattr(module, name)
        count = 0

        def wrapped(*arguments, **keywords):
            nonlocal count
            count += 1
            calls.append(name)
            if count == at:
                raise KeyboardInterrupt
            return original(*arguments, **keywords)

        monkeypatch.setattr(module, name, wrapped)

    sessions = [
        (explanation, "judge_heatmaps", {"at": 3}),
        (quantization, "set_ranges", {}),
        (quantization, "freeze", {}),
        (quantization, "latencies", {"at": 2}),
        (quantization, "tensor_errors", {"at": 2}),
    ]
    for module, name, keywords in sessions:
        interrupt_once(module, name, **keywords)
        with pytest.raises(KeyboardInterrupt):
            track.run(RECIPE, tmp_path / "parts")
        assert not (tmp_path / "parts").exists()
    trained = []
    monkeypatch.setattr(keras.Model, "fit", lambda *arguments, **keywords: trained.append(1))
    resumed = track.run(RECIPE, tmp_path / "parts")
    assert not trained
    # Each method, and random heatmaps once: one of them was interrupted.
    assert calls.count("judge_heatmaps") == len(explanation.METHODS) + 2
    assert result_of(resumed.folder) == result_of(expected.folder)
    for one, other in zip(resumed.model.get_weights(), expected.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    interruptions = json.loads((resumed.folder / "report.json").read_text("utf-8"))["interruptions"]
    assert len(interruptions) == len(sessions)
    assert interruptions[0]["stage"].startswith("heatmaps of")
    assert resumed.history.seconds > 0
    assert {path.name for path in resumed.folder.iterdir()} == {path.name for path in expected.folder.iterdir()}
    page = (resumed.folder / "report.html").read_text("utf-8")
    assert "Interrupted 5 times: during heatmaps of" in page
