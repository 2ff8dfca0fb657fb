"""`import keras_vision as kv`: what a notebook sees, and what the same looks like at the command line."""

import csv
import subprocess
import sys

import numpy as np
import pytest

import keras_vision as kv
from keras_vision import cli
from keras_vision.__main__ import main


@pytest.mark.slow
def test_importing_the_package_imports_no_framework_and_every_name_is_there():
    code = (
        "import sys, keras_vision as kv\n"
        "recipe = kv.smoke(kv.override(kv.recipe('derma', 'best'), data='synthetic'))\n"
        "heavy = {'numpy', 'cv2', 'keras', 'tensorflow', 'jax', 'torch', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "assert set(dir(kv)) == set(kv.__all__)\n"
        "[getattr(kv, name) for name in kv.__all__]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_recipes_by_name():
    recipe = kv.recipe("derma")
    assert (recipe.track, recipe.name) == ("derma", "baseline")
    assert kv.recipe("cifar", "fast").training.batch_size == 256
    for track in cli.TRACKS:
        assert kv.recipe(track).track == track
    with pytest.raises(kv.InputError, match="Tracks are train, derma.*Received: 'dermis'"):
        kv.recipe("dermis")
    with pytest.raises(kv.InputError, match="Recipes of derma are baseline, best, notebook, vgg19. Received: 'worst'"):
        kv.recipe("derma", "worst")


@pytest.mark.backend
@pytest.mark.slow
def test_a_run_and_its_classifiers_agree_with_its_predictions(tmp_path, monkeypatch):
    """From the recipe to probabilities, without a download: the data set is not on this machine."""
    monkeypatch.setenv("KERAS_VISION_DATA", str(tmp_path))
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    out = tmp_path / "run"
    recipe = kv.override(kv.smoke(kv.recipe("derma")), tflite=True, explain="none")
    result = kv.run(recipe, out)
    assert result.report.title == "synthetic"
    rows = list(csv.DictReader((out / "predictions.csv").read_text("utf-8").splitlines()))
    expected = np.array([[float(row[f"p_{label}"]) for label in range(7)] for row in rows])
    images = result.report.images
    found = kv.Classifier.open(out)
    assert found.class_names == result.report.class_names
    np.testing.assert_allclose(found.probabilities(images), expected, atol=1e-5)
    file = kv.Classifier.open(out / "tflite" / "float32.tflite")
    np.testing.assert_allclose(file.probabilities(images), expected, atol=1e-5)
    integers = kv.Classifier.open(out / "tflite" / "int8.tflite")
    # Ten steps leave a network that rounding moves by up to .13 on a few images.
    rounded = integers.probabilities(images)
    assert np.abs(rounded - expected).mean() < 0.02
    assert np.mean(rounded.argmax(axis=1) == expected.argmax(axis=1)) > 0.95


def test_the_console_command_runs_tracks_and_commands(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    for name in (*cli.TRACKS, *cli.COMMANDS):
        assert f"\n  {name} " in overview
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert "usage: " in capsys.readouterr().out
    assert main(["derma", "--data", "no/such.npz"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["dermma"]) == 2
    assert "Did you mean derma?" in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == kv.__version__


def test_help_names_the_program_as_it_was_called(monkeypatch, capsys):
    for called, shown in (("/usr/bin/keras-vision", "keras-vision derma"), ("x.py", "python -m keras_vision.derma")):
        monkeypatch.setattr(sys, "argv", [called])
        with pytest.raises(SystemExit):
            main(["derma", "--help"])
        assert capsys.readouterr().out.startswith(f"usage: {shown} [flags]")


def test_the_first_help_fits_on_a_screen_and_the_full_one_has_every_knob(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    for track in cli.TRACKS:
        texts = {}
        for flag in ("--help", "--help-all"):
            with pytest.raises(SystemExit):
                main([track, flag])
            texts[flag] = capsys.readouterr().out
        assert len(texts["--help"].splitlines()) <= 35
        for line in texts["--help-all"].split("\n  --")[1:]:
            assert line.count("(default:") <= 1, line
        for name in ("learning-rate", "cutout", "explained-layer", "qat-epochs", "momentum", "no-such"):
            assert (f"  --{name} " in texts["--help-all"]) == (name != "no-such")


def test_opencv_has_the_limit_of_pixels_that_files_are_checked_by():
    import os

    from keras_vision.files import image_files

    assert os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] == str(image_files.MAX_PIXELS)
