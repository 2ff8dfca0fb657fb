import dataclasses
import json

import numpy as np
import pytest

from keras_vision import data, derma, evaluation
from keras_vision.pipeline import folder, track
from keras_vision.quantization import c_array, conversion, exporting, tflite
from keras_vision.recipe import InputError, Recipe, override


@pytest.mark.backend
@pytest.mark.slow
def test_the_training_alone_is_that_of_a_run(smoke_recipe, tmp_path):
    recipe = override(smoke_recipe, calibrate=True)
    splits = data.load_splits(recipe.data, recipe.seed)
    result = track.run(recipe, tmp_path / "run")
    model, history = track.train(recipe, splits)
    for mine, theirs in zip(history.epochs, result.history.epochs, strict=True):
        assert {**mine, "seconds": 0} == pytest.approx({**theirs, "seconds": 0}, abs=1e-5)
    for mine, theirs in zip(model.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    # Its logits suit the validation split as they are, and the report says what dividing them did.
    logits = model.predict(splits.val.images.astype("float32"), verbose=0).astype(float)
    assert evaluation.fit_temperature(splits.val.labels, logits) == pytest.approx(1, abs=1e-3)
    found = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))["temperature"]
    assert abs(found["temperature"] - 1) > 0.05
    after = found["after"]["expected_calibration_error"]["value"]
    assert after == pytest.approx(result.report.judgement.metrics["expected_calibration_error"].value, abs=1e-6)
    assert f"divided by {found['temperature']:.2f}" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_the_intervals_of_a_run_are_resampled_by_the_groups_of_its_data(smoke_recipe, tmp_path, write_folder, capsys):
    root = write_folder({"train/a": 20, "train/b": 20, "test/a": 20, "test/b": 20})
    recipe = override(smoke_recipe, data=str(root), size=16, epochs=1, group_by=r"(\w+/[ab]/\d\d)\d", tflite=True)
    found = track.run(recipe, tmp_path / "run").report
    assert found.groups is not None
    assert (len(found.groups), len(np.unique(found.groups)), found.judgement.groups) == (40, 4, 4)
    expected = evaluation.judge(found.labels, found.probabilities, groups=found.groups, resamples=20)
    assert found.judgement.metrics == expected.metrics
    assert found.validation.groups is not None
    assert [file.agreement.judgement.groups for file in found.files] == [4, 4, 4]
    assert json.loads((tmp_path / "run" / "tflite" / "int8.json").read_text("utf-8"))["groups"] == 4
    assert "40 images (95 % intervals, resampled by group, 4 groups)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_without_tensorflow_writes_integer_files_and_says_why_no_others(
    smoke_recipe, tmp_path, monkeypatch, capsys
):
    def unknown(*given, **named):
        raise InputError("No operator.")

    monkeypatch.setattr(tflite, "is_installed", lambda: False)
    monkeypatch.setattr(conversion, "write_float_file", unknown)
    track.run(override(smoke_recipe, epochs=1, tflite=True), tmp_path / "run")
    assert "No float32 file: Only TensorFlow's converter knows" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "run" / "tflite").iterdir()) == ["int8.json", "int8.tflite"]
    (row,) = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))["tflite"]
    assert row["bytes_ratio"] is None
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert f"<b>Take int8.tflite</b>: {row['bytes']:,} bytes" in page


def test_a_run_has_quadratic_kappa_where_classes_are_named_in_their_order(tmp_path, write_folder, capsys):
    root = write_folder({"train/mild": 12, "train/none": 12, "test/mild": 6, "test/none": 6})
    out = tmp_path / "run"
    flags = ["--data", str(root), "--size", "16", "--smoke", "--epochs", "1", "--width", "2", "--explain", "none"]
    assert derma.main([*flags, "--ordered-classes", "none", "mild", "--out", str(out)]) == 0
    assert "quadratic kappa" in capsys.readouterr().out
    found = json.loads((out / "report.json").read_text("utf-8"))
    assert found["class_names"] == ["none", "mild"]
    assert {"value", "low", "high"} == set(found["metrics"]["quadratic_kappa"])
    assert "quadratic_kappa" in found["validation_metrics"]
    assert (out / "labels.txt").read_text("utf-8").split() == ["none", "mild"]


@pytest.mark.slow
def test_a_run_exports_its_model_once_and_says_what_was_refused(smoke_recipe, tmp_path, monkeypatch, capsys):
    asked = []

    def export(model, format, folder, images, metadata, *, logits):
        asked.append((format, images.shape, metadata.labels, logits))
        if format == "saved_model":
            raise InputError("A score differs by <0.5>.")
        (folder / "model.onnx").write_bytes(b"it")
        return exporting.Exported("onnx", "model.onnx", None, "Keras", "onnxruntime", 12, 1.0, 3e-7, 2, 0.5)

    monkeypatch.setattr(exporting, "export", export)
    recipe = override(smoke_recipe, epochs=1, tflite=True, export=("saved_model", "onnx", "c_array"))
    found = track.run(recipe, tmp_path / "run").report
    assert [row[0] for row in asked] == ["onnx", "saved_model"]
    assert asked[0][1:] == ((len(found.labels), 28, 28, 3), found.class_names, False)
    assert "No saved_model file: A score differs by <0.5>." in capsys.readouterr().out
    rows = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))["exports"]
    assert [(row["format"], row["file"]) for row in rows] == [
        *(("onnx", "model.onnx"), ("saved_model", None), ("c_array", "model.h")),
    ]
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "No saved_model file: A score differs by &lt;0.5&gt;." in page
    assert "3.0e-07" in page
    assert "| exports/model.onnx | 2 | 3.0e-07 |" in (tmp_path / "run" / "README.md").read_text("utf-8")
    content = (tmp_path / "run" / "tflite" / "int8.tflite").read_bytes()
    assert c_array.bytes_of((tmp_path / "run" / "exports" / "model.c").read_text()) == content
    assert "exports/model.c" in folder.to_publish(tmp_path / "run")[0]


def test_a_c_array_needs_an_integer_file():
    with pytest.raises(InputError, match="--export c_array is made of the integer .tflite file: add --tflite or --qat"):
        override(Recipe(), export="c_array")
    assert override(Recipe(), export="onnx").quantization.export == ("onnx",)


def test_a_network_trained_at_another_size_sees_whole_images_when_finished(smoke_recipe):
    small = override(smoke_recipe, architecture="resnet18", stem="imagenet", width=4, epochs=2, size=64, patience=0)
    splits = data.load_splits(small.data, small.seed)
    resizing, expected = track.train(override(small, input_size=32), splits)
    model, history = track.train(override(small, train_scale=0.5), splits)
    assert [row["loss"] for row in history.epochs] == [row["loss"] for row in expected.epochs]
    assert "resizing" in {layer.name for layer in resizing.layers}
    assert "resizing" not in {layer.name for layer in model.layers}
    for weight, same in zip(model.get_weights(), resizing.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)


def test_a_train_scale_needs_square_images(smoke_recipe):
    recipe = override(smoke_recipe, architecture="resnet18", width=4, train_scale=0.5)
    splits = data.load_splits(recipe.data, recipe.seed)
    oblong = [dataclasses.replace(split, images=split.images[:, :20]) for split in splits.named().values()]
    with pytest.raises(InputError, match="--train-scale needs square images, or --input-size. Received: 20 x 28"):
        track.train(recipe, dataclasses.replace(splits, **dict(zip(splits.named(), oblong, strict=True))))
