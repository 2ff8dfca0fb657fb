"""`--find-learning-rate` of every track, in smoke size."""

import csv
import json

import keras
import pytest

from keras_vision import derma, fracture3d, training

FILES = {"recipe.json", "environment.json", "learning_rates.json", "learning_rates.csv", "learning_rates.png"}
TRACKS = [
    (derma, ["--data", "synthetic"]),
    (fracture3d, ["--data", "synthetic3d", "--size", "16", "--batch-size", "4"]),
]


@pytest.mark.parametrize(("track", "flags"), TRACKS, ids=["derma", "fracture3d"])
def test_it_leaves_the_curve_and_trains_nothing(track, flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    out = tmp_path / "rates"
    flags = ["--find-learning-rate", "--smoke", "--augment", "--width", "2", *flags, "--out", str(out)]
    assert track.main(flags) == 0
    assert {path.name for path in out.iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["rates"]

    record = json.loads((out / "learning_rates.json").read_text("utf-8"))
    rows = list(csv.DictReader((out / "learning_rates.csv").read_text("utf-8").splitlines()))
    assert [float(row["learning_rate"]) for row in rows] == record["rates"]
    assert len(rows) <= 12
    assert record["recipe_learning_rate"] == track.RECIPES["baseline"].training.learning_rate
    environment = json.loads((out / "environment.json").read_text("utf-8"))
    assert environment["backend"] == keras.backend.backend()
    assert environment["data"]["name"] == flags[flags.index("--data") + 1]
    assert json.loads((out / "recipe.json").read_text("utf-8"))["augment"] is True
    assert (out / "learning_rates.png").read_bytes().startswith(b"\x89PNG")

    text = capsys.readouterr().out
    assert "The recipe's rate: " + record["advice"] in text
    assert str(out / "learning_rates.png") in text

    assert track.main(flags) == 2
    assert "pass --overwrite" in capsys.readouterr().err


def test_the_test_is_of_the_recipe_that_was_typed(tmp_path, monkeypatch):
    """Its optimizer, weight decay, batches, augmentation and class weights reach the sweep."""
    seen = {}

    def watched(model, batches, **settings):
        seen.update(settings, model=model, batches=batches)
        return training.read_curve([], [])

    monkeypatch.setattr(training, "range_test", watched)
    flags = ["--recipe", "best", "--data", "synthetic", "--smoke", "--width", "2", "--class-weight", "balanced"]
    assert derma.main([*flags, "--batch-size", "7", "--find-learning-rate", "--out", str(tmp_path / "rates")]) == 0
    assert isinstance(seen["model"].optimizer, keras.optimizers.AdamW)
    assert seen["model"].optimizer.weight_decay == derma.RECIPES["best"].training.weight_decay
    assert seen["batches"].batch_size == 7
    assert seen["batches"].augmentation == derma.RECIPES["best"].augmentation
    labels = seen["batches"].split.labels
    assert seen["class_weight"] == training.class_weights(labels, 7, "balanced")
    assert seen["steps"] == 12
