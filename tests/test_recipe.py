import dataclasses
import json
from pathlib import Path

import pytest

from keras_vision import derma
from keras_vision.recipe import (
    AugmentationSpec,
    InputError,
    Recipe,
    TrainingSpec,
    class_weight_power,
    override,
    smoke,
    specs,
)


def test_override_finds_the_spec_that_has_the_field():
    recipe = override(Recipe(), epochs=3, data="synthetic", rotation_range=5.0, seed=4)
    assert (recipe.training.epochs, recipe.data.data, recipe.augmentation.rotation_range, recipe.seed) == (
        3,
        "synthetic",
        5.0,
        4,
    )


def test_override_knows_no_other_field():
    with pytest.raises(TypeError, match="epoch"):
        override(Recipe(), epoch=3)


def test_field_names_are_unique_across_specs():
    parts = [Recipe(), *specs(Recipe()).values()]
    names = [item.name for part in parts for item in dataclasses.fields(part) if item.metadata]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("knob", "message"),
    [
        ({"epochs": 0}, "--epochs takes a number of at least 1"),
        ({"learning_rate": float("nan")}, "--learning-rate takes a finite number"),
        ({"zoom_range": 2.0}, "--zoom-range takes a number of at most 0.95"),
        ({"fill_mode": "mirror"}, "--fill-mode takes one of nearest, constant"),
        ({"warmup_epochs": float("inf")}, "--warmup-epochs takes a finite number"),
        ({"brightness_range": (1.2, 0.8)}, "darkest factor first"),
        ({"brightness_range": (-1.0, 0.8)}, "--brightness-range takes a number of at least 0"),
        ({"intensity_range": (9.0, 9.0)}, "--intensity-range takes the lower value first"),
        ({"intensity_range": (0.0, float("inf"))}, "--intensity-range takes a finite number"),
        ({"class_weight": "heavy"}, "--class-weight takes balanced, none or a number"),
        ({"class_weight": "1.5"}, "--class-weight takes balanced, none or a number"),
    ],
)
def test_a_value_out_of_range_names_its_flag_and_what_was_received(knob, message):
    with pytest.raises(InputError, match=message) as caught:
        override(Recipe(), **knob)
    assert "Received" in str(caught.value)


def test_one_layer_or_several_are_explained():
    for given, expected in ((None, None), ("late", ("late",)), (("early", "late"), ("early", "late"))):
        assert override(Recipe(), explained_layer=given).explanation.explained_layer == expected
    with pytest.raises(InputError, match="explains pixels. Received: early late"):
        override(Recipe(), explain="integrated-gradients", explained_layer=("early", "late"))


def test_a_network_has_one_start():
    with pytest.raises(InputError, match="--weights or from --init-from. Received: both"):
        override(Recipe(), architecture="resnet18", weights="imagenet", init_from="runs/derma")


def test_imagenet_weights_are_refused_for_images_that_they_were_trained_on():
    message = "The ImageNet weights were trained on Imagenette's images"
    for network in ({"architecture": "efficientnet_lite0"}, {"architecture": "resnet18"}):
        with pytest.raises(InputError, match=message):
            override(Recipe(track="imagenette"), data="photos/", weights="imagenet", **network)
        with pytest.raises(InputError, match=message):
            override(Recipe(track="plants"), data="imagenette", weights="imagenet", **network)
        assert override(Recipe(track="plants"), data="photos/", weights="imagenet", **network)
        assert override(Recipe(track="imagenette"), data="imagenette", weights="none", **network)


@pytest.mark.parametrize(("weights", "path"), [("none", None), ("imagenet", None), ("net.pth", "net.pth")])
def test_weights_are_a_word_or_a_path(weights, path):
    found = override(Recipe(), architecture="resnet18", weights=weights).model.weights_path
    assert found == (path and Path(path))


def test_words_and_powers_of_class_weights():
    assert [class_weight_power(text) for text in ("none", "balanced", "0.25")] == [0.0, 1.0, 0.25]


def test_a_recipe_is_json():
    content = json.loads(derma.RECIPES["baseline"].to_json())
    assert content["augmentation"]["rotation_range"] == 15.0
    assert content["training"]["epochs"] == 150


def test_smoke_keeps_the_recipe_but_for_its_size():
    recipe = derma.RECIPES["best"]
    small = smoke(recipe)
    assert small.augmentation == recipe.augmentation
    assert small.training.epochs < recipe.training.epochs


def test_the_augmentation_of_the_reference_notebook():
    assert derma.RECIPES["baseline"].augmentation == AugmentationSpec(
        rotation_range=15, zoom_range=0.2, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    assert not derma.RECIPES["baseline"].augment


def test_recipes_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingSpec().epochs = 5  # type: ignore[misc]


def test_an_error_is_one_line_that_a_terminal_prints_as_it_is():
    error = InputError("The array 't\nst\x1b[2J' is missing.")
    assert str(error) == "The array 't?st?[2J' is missing."
    assert f"{error}" == str(error)
