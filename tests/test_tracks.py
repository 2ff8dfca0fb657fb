"""Every track, whole, in smoke size; then what people do with the files."""

import csv
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_vision import (
    bones,
    cifar,
    compare,
    derma,
    evaluation,
    explanation,
    fracture3d,
    imagenette,
    plants,
    predict,
    quantization,
)
from keras_vision.data import medmnist
from keras_vision.pipeline import track
from keras_vision.recipe import InputError, override, smoke

pytestmark = pytest.mark.slow
BACKENDS = ("tensorflow", "jax", "torch")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished smoke run of the derma baseline with augmentation, through the command line."""
    out = tmp_path_factory.mktemp("runs") / "derma-augment"
    flags = ["--data", "synthetic", "--smoke", "--augment", "--width", "4", "--out", str(out)]
    assert derma.main(flags) == 0
    return out


@pytest.mark.backend
def test_a_run_leaves_its_files(finished):
    names = {path.relative_to(finished).as_posix() for path in finished.rglob("*") if path.is_file()}
    plots = {"learning_curves", "confusion_matrix", "reliability", "class_balance", "surest_mistakes", "heatmaps"}
    assert names == {
        "recipe.json",
        "environment.json",
        "model.keras",
        "labels.txt",
        "history.csv",
        "predictions.csv",
        "report.json",
        "report.html",
        "README.md",
        "unsure.json",
        *(f"plots/{name}.png" for name in plots),
    }


@pytest.mark.backend
def test_the_report_tells_the_run(finished):
    report = json.loads((finished / "report.json").read_text("utf-8"))
    assert report["data"]["name"] == "synthetic"
    assert report["environment"]["backend"] == keras.backend.backend()
    assert report["recipe"]["augment"] is True
    assert report["recipe"]["augmentation"]["rotation_range"] == 15
    assert len(report["classes"]) == 7
    assert report["metrics"].keys() >= {"accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "auc"}
    assert report["validation_metrics"].keys() == report["metrics"].keys()
    page = (finished / "report.html").read_text("utf-8")
    assert "synthetic" in page
    assert "actinic keratosis" in page
    assert page.count("data:image/png;base64,") == 6
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.backend
def test_the_saved_model_gives_the_figures_of_the_report(finished, lesions):
    report = json.loads((finished / "report.json").read_text("utf-8"))
    test = lesions.limited(140).test
    model = keras.saving.load_model(finished / "model.keras")
    probabilities = evaluation.softmax(model.predict(test.images, verbose=0))
    accuracy = (probabilities.argmax(axis=1) == test.labels).mean()
    assert accuracy == pytest.approx(report["metrics"]["accuracy"]["value"])
    train = lesions.limited(140).train
    known = model.predict(train.images, verbose=0).argmax(axis=1) == train.labels
    assert report["training"]["accuracy"] == pytest.approx(known.mean())


@pytest.mark.backend
def test_the_saved_model_gives_the_same_logits_on_the_other_backends(finished, lesions, tmp_path):
    images = lesions.test.images[:16]
    np.save(tmp_path / "images.npy", images)
    expected = keras.saving.load_model(finished / "model.keras").predict(images, verbose=0)
    code = (
        "import sys, keras, numpy as np\n"
        "model, images, out = sys.argv[1:]\n"
        "np.save(out, keras.saving.load_model(model).predict(np.load(images), verbose=0))\n"
    )
    for backend in BACKENDS:
        if backend == keras.backend.backend():
            continue
        out = tmp_path / f"{backend}.npy"
        subprocess.run(
            [sys.executable, "-c", code, str(finished / "model.keras"), str(tmp_path / "images.npy"), str(out)],
            check=True,
            env={**os.environ, "KERAS_BACKEND": backend},
        )
        np.testing.assert_allclose(np.load(out), expected, atol=1e-4)


@pytest.mark.backend
def test_a_file_never_seen_before_works_without_a_change_of_code(write_npz, tmp_path):
    """Gray images of two classes, brighter and darker, which the network must tell apart."""
    path = write_npz("chest.npz", shape=(28, 28), counts=(120, 30, 40))
    out = tmp_path / "run"
    flags = ["--data", str(path), "--augment", "--epochs", "30", "--width", "4", "--bootstrap", "20", "--out", str(out)]
    flags += ["--batch-size", "16", "--dropout-scale", "0.2", "--faithfulness-images", "0"]
    flags += ["--positive-class", "class_1"]
    assert derma.main(flags) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["class_names"] == ["class_0", "class_1"]
    assert report["metrics"]["auc"]["value"] > 0.9
    assert report["operating_point"]["positive"] == "class_1"
    assert report["operating_point"]["at_threshold"]["sensitivity"]["value"] > 0.7
    assert (out / "plots" / "roc_curve.png").is_file()
    assert "share of class_1 that is detected" in (out / "report.html").read_text("utf-8")


@pytest.mark.backend
def test_best_runs_whole(tmp_path):
    recipe = override(smoke(derma.RECIPES["best"]), data="synthetic", width=4)
    result = track.run(recipe, tmp_path / "best")
    assert len(result.history.epochs) == 2
    assert result.report.split == "test"


@pytest.fixture(scope="module")
def small_run(smoke_recipe, tmp_path_factory):
    """A run of the baseline without augmentation, through `track.run`."""
    return track.run(smoke_recipe, tmp_path_factory.mktemp("runs") / "plain")


def test_a_run_is_judged_again_with_the_same_metrics(small_run):
    from keras_vision.pipeline import tested

    again = tested.judge(small_run.folder)
    assert again["metrics"] == json.loads((small_run.folder / "report.json").read_text())["metrics"]
    assert again["images"] == len(small_run.report.labels)


def test_a_run_whose_data_has_changed_is_not_judged_again(small_run, tmp_path):
    from keras_vision.pipeline import tested

    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["data"]["limit"] -= 20
    (folder / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match="is not what it was trained on"):
        tested.judge(folder)


def test_a_profile_is_reported_and_changes_nothing_else(smoke_recipe, small_run, tmp_path, capsys):
    result = track.run(override(smoke_recipe, profile=True), tmp_path / "run")
    profile = result.report.profile
    assert profile.steps_per_epoch == len(profile.step) == 4
    assert profile.validation > 0
    assert profile.summary() in capsys.readouterr().out
    assert small_run.report.profile is None
    for one, other in zip(small_run.model.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.backend
def test_judging_on_validation_changes_what_is_judged_and_not_what_is_learnt(
    smoke_recipe, small_run, tmp_path, lesions
):
    result = track.run(override(smoke_recipe, judge_on="val"), tmp_path / "run")
    assert (small_run.report.split, result.report.split) == ("test", "val")
    assert np.array_equal(result.report.images, lesions.limited(60).val.images)
    found, expected = (judgement.metrics for judgement in (result.report.judgement, small_run.report.validation))
    assert {name: values[0] for name, values in found.items()} == pytest.approx(
        {name: values[0] for name, values in expected.items()}, abs=0.02
    )
    for one, other in zip(small_run.model.get_weights(), result.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.backend
def test_a_class_to_find_that_is_none_of_two_is_refused_before_the_training(tmp_path, capsys):
    flags = ["--data", "synthetic", "--limit", "60", "--positive-class", "melanoma", "--out", str(tmp_path / "run")]
    assert derma.main(flags) == 2
    assert "--positive-class names one of two classes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.backend
def test_volumes_are_refused_by_a_track_of_2d_images(tmp_path, capsys):
    assert derma.main(["--data", "synthetic3d", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "takes images of at least 16 x 16" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.backend
@pytest.mark.real_data
def test_the_track_on_real_lesions(real_data, tmp_path):
    path = str(real_data("ham10000_5984_28.npz"))
    out = tmp_path / "run"
    assert derma.main(["--data", path, "--augment", "--smoke", "--limit", "600", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["class_names"][4] == "melanoma"
    assert report["metrics"]["accuracy"]["value"] > 0.5


@pytest.mark.backend
def test_compare_reads_two_runs(finished, small_run, tmp_path, capsys):
    page = tmp_path / "compare.html"
    assert compare.main([str(finished), str(small_run.folder), "--out", str(page)]) == 0
    text = capsys.readouterr().out
    assert "derma-augment" in text
    assert "McNemar's p" in text
    assert text.count("synthetic, test") == 2
    assert page.read_text("utf-8").count("data:image/png") == 1


@pytest.mark.backend
def test_a_run_with_qat_leaves_four_audited_files_with_cards(tmp_path):
    out = tmp_path / "run"
    flags = [
        "--data",
        "synthetic",
        "--smoke",
        "--width",
        "2",
        "--qat",
        "--qat-epochs",
        "1",
        "--explain",
        "none",
        "--out",
        str(out),
    ]
    assert derma.main([*flags, "--epochs", "1"]) == 0
    rows = json.loads((out / "report.json").read_text("utf-8"))["tflite"]
    assert [(row["scheme"], row["kind"]) for row in rows][2:] == [("int8", "full-integer"), ("qat", "full-integer")]
    assert [row["scheme"] for row in rows] == ["float32", "dynamic", "int8", "qat"]
    for row in rows:
        content = (out / row["file"]).read_bytes()
        card = json.loads((out / "tflite" / f"{row['scheme']}.json").read_text("utf-8"))
        assert card["sha256"] == hashlib.sha256(content).hexdigest()
        assert list(quantization.read_metadata(content).labels) == card["labels"]
    assert "Files for phones" in (out / "report.html").read_text("utf-8")


@pytest.mark.backend
def test_heatmaps_of_network_and_files_are_put_to_the_test(tmp_path):
    out = tmp_path / "run"
    flags = ["--data", "synthetic", "--smoke", "--width", "2", "--epochs", "1", "--tflite", "--out", str(out)]
    assert derma.main([*flags, "--faithfulness-images", "3"]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert [row["method"] for row in report["faithfulness"]] == [*explanation.METHODS, "random"]
    assert all(0 <= row["insertion"] <= 1 and -1 <= row["road"] <= 1 for row in report["faithfulness"])
    files = {row["scheme"]: row["heatmaps"] for row in report["tflite"]}
    assert files["float32"]["score-cam"]["cosine"] > 0.999
    assert set(files["int8"]) == {"score-cam", "grad-cam"}
    assert "Can the heatmaps be trusted?" in (out / "report.html").read_text("utf-8")


def test_a_layer_that_is_not_there_is_said_before_the_training(tmp_path, capsys):
    flags = ["--data", "synthetic", "--smoke", "--out", str(tmp_path / "run"), "--explained-layer", "block9_conv"]
    assert derma.main(flags) == 2
    caught = capsys.readouterr()
    assert "no layer 'block9_conv'. Near it: block" in caught.err
    assert "Epoch" not in caught.out


def test_rib_fractures_by_their_name(write_npz, monkeypatch, tmp_path):
    """A file like the real one, which only its MD5 tells apart, where MedMNIST's files lie."""
    path = write_npz("fracturemnist3d.npz", shape=(28, 28, 28), num_classes=3, counts=(30, 6, 9))
    known = {**medmnist.info()["fracturemnist3d"], "MD5": hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(medmnist, "info", lambda: {"fracturemnist3d": known})
    monkeypatch.setenv("KERAS_VISION_DATA", str(path.parent))
    out = tmp_path / "run"
    assert fracture3d.main(["--smoke", "--augment", "--width", "2", "--epochs", "1", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["class_names"] == ["buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"]
    assert report["data"]["name"] == "fracturemnist3d"
    assert report["data"]["licence"] == "CC BY 4.0"
    assert report["metrics"].keys() >= {"accuracy", "macro_precision", "macro_recall", "macro_f1", "auc"}
    assert (out / "plots" / "heatmaps.png").is_file()


@pytest.mark.backend
def test_volumes_go_the_whole_way_to_integer_files(tmp_path):
    out = tmp_path / "run"
    flags = ["--data", "synthetic3d", "--size", "16", "--smoke", "--width", "2", "--qat", "--qat-epochs", "1"]
    assert fracture3d.main([*flags, "--limit", "40", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert {row["scheme"]: row["kind"] for row in report["tflite"]} == {
        "float32": "float",
        "dynamic": "dynamic range",
        "int8": "full-integer",
        "qat": "full-integer",
    }
    for row in report["tflite"]:
        names = {item.name for item in quantization.audit((out / row["file"]).read_bytes()).operators}
        assert names <= {
            "CONV_2D",
            "MAX_POOL_2D",
            "FULLY_CONNECTED",
            "SOFTMAX",
            "QUANTIZE",
            "RESHAPE",
            "PAD",
            "PADV2",
        } | {
            "CONCATENATION",
            "STRIDED_SLICE",
            "MUL",
        }, row["scheme"]
    files = {row["scheme"]: row for row in report["tflite"]}
    # An untrained network has ties in steps of 1/256, so its classes tell nothing.
    assert files["qat"]["simulation"]["within_a_step"] >= 0.99
    assert (out / "plots" / "heatmaps.png").is_file()


@pytest.mark.backend
def test_small_pictures_go_the_whole_way_with_several_layers_explained(tmp_path, write_npz):
    """The reference network on a file without a validation split, as `--data FILE.npz` gives it."""
    path = write_npz(
        "cifar10.npz", shape=(16, 16, 3), num_classes=10, counts=(40, 0, 20), val_images=None, val_labels=None
    )
    out = tmp_path / "run"
    layers = ["layer1_2_relu2", "layer3_2_relu2"]
    flags = ["--data", str(path), "--smoke", "--epochs", "1", "--width", "2", "--misclassified", "5"]
    assert cifar.main([*flags, "--augment", "--explained-layer", *layers, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["class_names"][9] == "truck"
    assert report["data"]["name"] == "cifar10.npz"
    assert report["data"]["counts"] == {"train": [3] * 10, "val": [1] * 10, "test": [2] * 10}
    assert report["recipe"]["explanation"]["explained_layer"] == layers
    assert "layer1_2_relu2, layer3_2_relu2, in this order" in report["heatmaps"]
    assert "layer1_2_relu2, layer3_2_relu2, in this order" in (out / "report.html").read_text("utf-8")
    assert (out / "plots" / "surest_mistakes.png").is_file()


def test_a_folder_goes_the_whole_way_and_its_dirt_and_leaks_are_reported(tmp_path, write_folder, capsys):
    root = write_folder({"train/a": 24, "train/b": 24, "test/a": 8, "test/b": 8}, side=32)
    (root / "train" / "a" / "bad.png").write_bytes(b"bad")
    shutil.copy(root / "train" / "b" / "003.png", root / "test" / "b" / "copy.png")
    out = tmp_path / "run"
    flags = ["--data", str(root), "--color", "gray", "--size", "16", "--smoke", "--epochs", "1", "--width", "2"]
    more = ["--qat", "--qat-epochs", "1", "--explain", "none", "--link-mistakes"]
    assert derma.main([*flags, *more, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "1 files set aside (train/a/bad.png: not an image format that OpenCV reads)" in printed
    assert "Leaks between splits: 1 exact, 0 near duplicates." in printed
    found = json.loads((out / "data_report.json").read_text("utf-8"))
    assert found["set_aside"] == {"train/a/bad.png": "not an image format that OpenCV reads"}
    (leak,) = found["leaks"]
    assert leak["exact"]
    assert set(leak["names"]) == {"train/b/003.png", "test/b/copy.png"}
    assert json.loads((out / "report.json").read_text("utf-8"))["data_report"] == found
    page = (out / "report.html").read_text("utf-8")
    assert "train/a/bad.png" in page
    assert (out / "plots" / "leaks.png").is_file()
    answers = list(csv.DictReader((out / "predictions.csv").read_text("utf-8").splitlines()))
    assert {row["file"] for row in answers} == {f"test/{kind}/{n:03}.png" for kind in "ab" for n in range(8)} | {
        "test/b/copy.png"
    }
    links = {os.path.realpath(path) for path in (out / "mistakes").rglob("*.png")}
    assert links == {str(root / row["file"]) for row in answers if row["label"] != row["predicted"]}
    listed = list(csv.DictReader((out / "splits.csv").read_text("utf-8").splitlines()))
    assert {row["file"] for row in listed if row["split"] == "test"} == {row["file"] for row in answers}
    for row in listed:
        assert row["sha256"] == hashlib.sha256((root / row["file"]).read_bytes()).hexdigest()
        assert row["file"].split("/")[1] == row["class"]
    file = str(out / "tflite" / "qat.tflite")
    assert predict.main([file, str(root / "test" / "a")]) == 0
    assert json.loads((out / "tflite" / "qat.json").read_text("utf-8"))["data"]["resize"] == "crop"


def test_resnet18_runs_whole(tmp_path):
    recipe = override(
        smoke(cifar.RECIPES["resnet18"]), data="synthetic", size=16, width=2, limit=40, epochs=1, explain="none"
    )
    result = track.run(recipe, tmp_path / "run")
    assert recipe.augment
    assert result.model.name == "resnet18"
    assert result.report.probabilities.shape == (len(result.report.labels), 7)
    assert type(result.model.optimizer).__name__ == "SGD"


@pytest.mark.backend
def test_fast_runs_whole_in_half_precision_and_leaves_a_float32_model(tmp_path):
    recipe = override(
        smoke(cifar.RECIPES["fast"]),
        data="synthetic",
        size=16,
        width=2,
        limit=40,
        epochs=1,
        warmup_epochs=0.5,
        explain="none",
        precision="mixed_bfloat16",
    )
    result = track.run(recipe, tmp_path / "run")
    assert keras.config.dtype_policy().name == "float32"
    assert {layer.compute_dtype for layer in result.model.layers} == {"float32"}
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    found = evaluation.softmax(model.predict(result.report.images, verbose=0))
    np.testing.assert_allclose(found, result.report.probabilities, atol=1e-5)
    assert not np.allclose(model.get_layer("whitening").get_weights()[0], 0)


def test_regularized_is_resnet18_with_the_reference_dropout_and_augmentation():
    recipe = cifar.RECIPES["regularized"]
    assert dataclasses.replace(recipe.model, head_dropout=0.0) == cifar.RECIPES["resnet18"].model
    assert recipe.model.head_dropout == 0.5
    assert recipe.augment
    assert recipe.augmentation.horizontal_flip
    assert recipe.augmentation.rotation_range > 0


@pytest.fixture
def folders_at_hand(tmp_path, monkeypatch):
    """Flags of a run on folders of drawn images, small enough for every backend."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    flags = ["--data", "synthetic-folders", "--smoke", "--limit", "28", "--epochs", "1", "--warmup-epochs", "0"]
    return [*flags, "--bootstrap", "20", "--misclassified", "0", "--faithfulness-images", "0"]


SMALL = ["--size", "32", "--width", "2"]
FROZEN = [*SMALL, "--weights", "none"]
ON_EVERY_BACKEND = [
    (imagenette, ["--recipe", "basic_cnn", *SMALL], "conv1"),
    (bones, ["--recipe", "frozen", *FROZEN], "hidden"),
    (plants, ["--recipe", "robust", *SMALL], "stem_conv"),
    (derma, ["--recipe", "vgg19", "--weights", "none", "--cut-layer", "block2_conv1"], "hidden"),
]
ONCE = [
    (imagenette, ["--recipe", "resnet18", *SMALL], "conv1"),
    (bones, ["--recipe", "partial", *FROZEN], "layer4_0_conv1"),
    (plants, ["--recipe", "baseline", *SMALL], "conv1"),
]


@pytest.mark.parametrize(
    ("module", "flags", "first"),
    [*(pytest.param(*case, marks=pytest.mark.backend) for case in ON_EVERY_BACKEND), *ONCE],
    ids=[case[1][1] for case in (*ON_EVERY_BACKEND, *ONCE)],
)
def test_tracks_on_folders_run_whole(module, flags, first, folders_at_hand, tmp_path):
    """`first` is the first layer that learns."""
    out = tmp_path / "run"
    assert module.main([*folders_at_hand, *flags, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["data"]["name"] == "synthetic-folders"
    assert (out / "data_report.json").is_file()
    assert (out / "plots" / "heatmaps.png").is_file()
    model = keras.saving.load_model(out / "model.keras")
    gray = report["recipe"]["data"]["color"] == "gray"
    assert model.input_shape[-1] == (1 if gray else 3)
    assert next(layer.name for layer in model.layers if layer.trainable_weights) == first
    at_random = "--weights" in flags
    assert (report["caution"] is not None) == at_random
    assert ("random weights" in (out / "report.html").read_text("utf-8")) == at_random


def test_from_imagenette_to_small_pictures_beside_scratch(folders_at_hand, tmp_path, capsys):
    """A gray network's weights in one for colours, and the table of the reference notebook."""
    small = ["--width", "2", "--explain", "none"]
    start, finetune, scratch = (tmp_path / name for name in ("start", "finetune", "scratch"))
    assert imagenette.main([*folders_at_hand, "--recipe", "resnet18", "--size", "32", *small, "--out", str(start)]) == 0
    small += ["--data", "synthetic", "--input-size", "32"]
    flags = [*folders_at_hand, *small, "--recipe"]
    assert cifar.main([*flags, "finetune", "--init-from", str(start), "--out", str(finetune)]) == 0
    assert "Loaded " in capsys.readouterr().out
    assert cifar.main([*flags, "scratch", "--out", str(scratch)]) == 0
    assert compare.main([str(finetune), str(scratch), "--out", str(tmp_path / "page.html")]) == 0
    table = capsys.readouterr().out
    for row in ("epochs", "training accuracy", "validation accuracy", "training loss", "validation loss"):
        assert f"\n{row} " in table
    assert keras.saving.load_model(finetune / "model.keras").input_shape == (None, 32, 32, 3)


def test_finetuning_says_where_it_starts_from(capsys, tmp_path):
    assert cifar.main(["--recipe", "finetune", "--data", "synthetic", "--out", str(tmp_path / "run")]) == 2
    assert "--init-from takes a run's folder" in capsys.readouterr().err
