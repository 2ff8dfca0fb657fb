"""Knobs that nothing reads in a run are refused when they are typed, and the table of them is right in both ways."""

import dataclasses
import importlib
import itertools

import keras
import pytest

from keras_vision import cifar, cli, derma, fracture3d, models
from keras_vision.recipe import InputError, Recipe, flag, override, smoke, specs, unread
from keras_vision.training.fit import _callbacks, _optimizer

# A value that differs from each field's default, for the fields whose reader depends on another choice.
OTHER = {
    "width": 24,
    "dropout_scale": 0.5,
    "stem": "imagenet",
    "backbone": "MobileNet",
    "cut_layer": "block_3_expand_relu",
    "input_size": 48,
    "head_units": 16,
    "head_dropout": 0.3,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.1,
    "keep_statistics": True,
    "teacher_share": 0.3,
    "train_scale": 0.5,
    "head_epochs": 2,
    "head_learning_rate": 0.1,
    "feature_copies": 3,
    "plateau_patience": 3,
    "step_epochs": 2,
    "cut_factor": 0.3,
    "warmup_epochs": 1.0,
    "color": "gray",
    "resize": "pad",
    "intensity_range": (0.0, 4095.0),
    "strict": True,
    "test_share": 0.3,
    "labels_csv": "labels.csv",
    "file_column": "file",
    "label_column": ("label",),
    "label_separator": "|",
    "split_column": "split",
    "classes_at": "images",
    "group_by": "patient",
    "link_mistakes": True,
    "splits": "splits.csv",
    "val_share": 0.3,
    "size": 64,
    "isotropic_zoom": True,
    "fill_mode": "reflect",
    "cval": 7.0,
    "explained_layer": ("block1_conv",),
    "explained_per_class": 3,
    "faithfulness_images": 5,
    "qat_epochs": 3,
    "qat_frozen_share": 0.5,
    "qat_learning_rate": 0.001,
    "representative_images": 12,
    "tflite_io": "int8",
    "tflite_logits": True,
}
SYNTHETIC = override(derma.RECIPES["baseline"], data="synthetic")
MODEL_FIELDS = ("width", "dropout_scale", "stem", "backbone", "cut_layer", "input_size", "head_units", "head_dropout")
RATE_FIELDS = ("plateau_patience", "step_epochs", "cut_factor", "warmup_epochs")
OPTIMIZER_FIELDS = ("momentum", "nesterov", "weight_decay")


def parse(argv, track=derma):
    return cli.parse(track.__name__.rpartition(".")[2], track.RECIPES, "", argv)[1]


def test_every_field_of_the_table_has_another_value_here():
    recipe = override(Recipe(), data="synthetic", explain="none", architecture="application")
    others = unread(override(Recipe(), data="my.npz", architecture="whitened_cnn"))
    assert {*unread(recipe), *others} <= OTHER.keys()


def typed(name):
    value = OTHER[name]
    words = [] if value is True else map(str, value) if isinstance(value, tuple) else [str(value)]
    return [flag(name), *words]


@pytest.mark.parametrize("name", [name for name in OTHER if name in unread(SYNTHETIC)])
def test_a_typed_knob_without_a_reader_is_refused_by_name(name, capsys):
    with pytest.raises(InputError, match=f"{flag(name)} has no effect in this run. It is used with "):
        parse(["--data", "synthetic", *typed(name)])
    assert derma.main(["--data", "synthetic", *typed(name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {flag(name)} has no effect")
    assert error.count("\n") == 1


def test_a_knob_is_taken_with_its_reader_and_switching_off_is_no_mistake():
    assert parse(["--optimizer", "sgd", "--momentum", "0.5"]).training.momentum == 0.5
    assert parse(["--schedule", "cosine", "--warmup-epochs", "3"]).training.warmup_epochs == 3
    assert parse(["--qat", "--qat-epochs", "3"]).quantization.qat_epochs == 3
    assert parse(["--explain", "none", "--faithfulness-images", "0"]).explanation.explain == "none"
    assert parse(["--rotation-range", "3", "--fill-mode", "constant", "--cval", "9"]).augmentation.cval == 9
    assert parse(["--data", "no-such-name", "--color", "gray"]).data.color == "gray"  # The name is refused later.
    assert parse(["--recipe", "resnet18", "--stem", "imagenet"], cifar).model.stem == "imagenet"
    assert parse(["--recipe", "best", "--weight-decay", "0.2"], fracture3d).training.weight_decay == 0.2


def test_a_range_test_refuses_what_comes_after_a_training():
    with pytest.raises(InputError, match="--qat has no effect.* leave out --find-learning-rate"):
        parse(["--find-learning-rate", "--qat"])
    with pytest.raises(InputError, match="--bootstrap has no effect"):
        parse(["--find-learning-rate", "--bootstrap", "20"])
    with pytest.raises(InputError, match="--profile has no effect"):
        parse(["--find-learning-rate", "--profile"])
    with pytest.raises(InputError, match="--tracker has no effect"):
        parse(["--find-learning-rate", "--tracker", "mlflow"])


# The other two EfficientNet-Lites are built by the same function, in more seconds.
LARGE = ("application", "efficientnet_lite1", "efficientnet_lite2")


@pytest.mark.parametrize("architecture", [name for name in models.ARCHITECTURES if name not in LARGE])
def test_the_table_is_right_about_networks(architecture):
    """A network is the same without the fields that nothing reads, and another with each of the others."""
    shape = (32, 32, 32, 1) if architecture == "plain_cnn_3d" else (32, 32, 3)
    plain = override(Recipe(), architecture=architecture, width=4)
    with_head = plain if "head_dropout" in unread(plain) else override(plain, head_dropout=0.2)
    for name in MODEL_FIELDS:
        # Dropout in the head is scaled, so there has to be some.
        base = with_head if name == "dropout_scale" else plain
        same = built(override(base, **{name: OTHER[name]}), shape) == built(base, shape)
        assert same == (name in unread(base)), name


def built(recipe, shape):
    model = models.build(recipe.model, shape, 3)
    return [
        (layer.name, {key: value for key, value in layer.get_config().items() if key != "seed"})
        for layer in model.layers
    ]


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [*itertools.product(("adam", "adamw", "sgd"), ("plateau", "step", "cosine", "linear", "constant"))],
)
def test_the_table_is_right_about_optimizers_and_schedules(optimizer, schedule):
    plain = override(Recipe(), optimizer=optimizer, schedule=schedule, epochs=6)
    for name in (*OPTIMIZER_FIELDS, *RATE_FIELDS):
        changed = override(plain, **{name: OTHER[name]})
        assert (trained_by(changed) == trained_by(plain)) == (name in unread(plain)), name


def trained_by(recipe):
    """Everything that decides the steps: the optimizer with its schedule, and the callbacks."""
    optimizer = _optimizer(recipe.training, 10)
    callbacks = _callbacks(recipe.training, None, None)
    plateau = [vars(item) for item in callbacks if isinstance(item, keras.callbacks.ReduceLROnPlateau)]
    settings = [(part["factor"], part["patience"]) for part in plateau]
    config = {key: value for key, value in optimizer.get_config().items() if key != "name"}
    return config, settings


def test_smoke_is_small_and_downloads_nothing():
    for track in cli.TRACKS:
        for recipe in importlib.import_module(f"keras_vision.{track}").RECIPES.values():
            small = smoke(recipe)
            assert small.model.weights != "imagenet"
            assert small.training.epochs == 2
            assert small.data.images_at_most(28 * 28 * 3) == 140
            assert small.data.images_at_most(64**3) == 5
            assert small.data.images_at_most(10**9) == 1
            assert dataclasses.replace(small.data, limit=30).images_at_most(64**3) == 30
            assert all(name in specs(small) for name in ("data", "model", "training"))
