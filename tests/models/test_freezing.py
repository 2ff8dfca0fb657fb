"""Frozen layers: which they are, and that nothing moves them."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import models, quantization, training
from keras_vision.data import Batches, synthetic
from keras_vision.pipeline.track import _in_float32
from keras_vision.recipe import InputError, ModelSpec, TrainingSpec

RESNET = {"architecture": "resnet18", "width": 2}
# Quicker to compile, with the same kinds of layers.
SMALL = {"architecture": "small_resnet", "width": 2}
SHAPE = (28, 28, 3)


@pytest.fixture(scope="module")
def batches():
    splits = synthetic.lesions(seed=0, size=28).limited(40)
    return [Batches(part, splits.num_classes, 16) for part in (splits.train, splits.val)]


def build(unfreeze, **knobs):
    keras.utils.set_random_seed(0)
    return models.build(ModelSpec(**{**RESNET, "unfreeze": unfreeze, **knobs}), SHAPE, 7)


def learning(model):
    return [layer.name for layer in model.layers if layer.trainable_weights]


def weights(model):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in model.weights}


def moved(before, after):
    return {path.split("/")[0] for path in before if not np.array_equal(before[path], after[path])}


def test_the_head_alone():
    assert learning(build("none")) == ["logits"]
    assert learning(build("none", head_units=4, head_dropout=0.5)) == ["hidden", "logits"]
    assert learning(build("none", architecture="plain_cnn")) == ["dense256", "dense128", "logits"]


def test_the_head_alone_behind_a_backbone_with_vectors_inside():
    """EfficientNet's blocks weigh their channels by what they see of the whole picture."""
    model = build(
        "none", architecture="application", backbone="EfficientNetB0", cut_layer="block2a_dwconv", input_size=32
    )
    assert learning(model) == ["logits"]


def test_from_a_section_on():
    found = learning(build("layer4"))
    assert {name.split("_")[0] for name in found} == {"layer4", "logits"}
    assert (
        len(found) == 2 * (2 + 2 + 1) + 1
    )  # Two blocks of two convolutions with normalizations, a projection, logits.


def test_from_a_layer_on():
    assert learning(build("layer4_1_bn2")) == ["layer4_1_bn2", "logits"]


def test_all_learn_by_default():
    model = build("all")
    assert learning(model) == [layer.name for layer in model.layers if layer.weights]


def test_the_layer_that_whitens_never_learns():
    assert "whitening" not in learning(build("all", architecture="whitened_cnn"))


@pytest.mark.parametrize("name", ["layer44", "layer", "layer4_1_bn"])
def test_a_layer_that_is_not_there(name):
    with pytest.raises(InputError, match=f"--unfreeze takes all, none or a layer's name, such as layer.*: {name}."):
        build(name)


def test_it_is_said_what_learns_and_that_frozen_weights_are_random(capsys):
    build("none")
    said = capsys.readouterr().out
    # 16 features and 7 classes.
    assert "Frozen: all layers before avgpool; 119 of" in said
    assert "the metrics are meaningless" in said


@pytest.mark.parametrize(
    "knobs",
    [
        {"optimizer": "sgd", "weight_decay": 0.1, "learning_rate": 0.01, "patience": 1},
        pytest.param({"ema_momentum": 0.5}, marks=pytest.mark.backend),
    ],
    ids=["decay", "average"],
)
def test_training_moves_what_learns_and_nothing_else(batches, knobs):
    model = build("block3", **SMALL)
    before = weights(model)
    training.fit(model, *batches, TrainingSpec(**{"epochs": 1, "learning_rate": 0.1, "patience": 0, **knobs}))
    assert moved(before, weights(model)) == set(learning(model))


def test_the_range_test_leaves_a_partly_frozen_network_as_it_was(batches):
    model = build("block3", **SMALL)
    training.compile_model(model, TrainingSpec(), steps_per_epoch=3)
    before = weights(model)
    training.range_test(model, batches[0], steps=10, verbose=False)
    assert not moved(before, weights(model))
    assert {name.split("_")[0] for name in learning(model)} == {"block3", "logits"}


@pytest.mark.backend
def test_mixed_precision_gives_a_float32_network_with_the_same_layers_frozen(batches, half_precision):
    knobs = {"architecture": "application", "backbone": "VGG19", "cut_layer": "block2_conv1", "input_size": 32}
    with half_precision():
        model = build("block2", head_dropout=0.5, **knobs)
    training.fit(model, *batches, TrainingSpec(epochs=1, patience=0))
    found = _in_float32(model)
    assert {layer.compute_dtype for layer in found.layers} == {"float32"}
    assert learning(found) == learning(model)
    assert not moved(weights(model), weights(found))
    images = batches[1].split.images
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(found.predict(images, verbose=0), expected, atol=0.1 * np.ptp(expected))


def test_a_float32_network_stays_itself():
    model = build("none")
    assert _in_float32(model) is model


def test_saving_keeps_what_is_frozen(tmp_path):
    model = build("block3", **SMALL)
    model.save(tmp_path / "model.keras")
    found = keras.saving.load_model(tmp_path / "model.keras")
    assert learning(found) == learning(model)
    assert not moved(weights(model), weights(found))


def test_fine_tuning_for_quantization_keeps_frozen_layers(batches):
    """What is frozen stays so with fake quantization; the file still answers as its simulation does."""
    model = build("block3", **SMALL)
    quantized = quantization.with_fake_quantization(model)
    images = batches[0].split.images
    quantization.set_ranges(quantized, model, images)
    before = weights(quantized)
    training.fit(training.student_of(model, quantized), *batches, TrainingSpec(epochs=1, patience=0))
    changed = {name for name in moved(before, weights(quantized)) if not name.endswith("_range")}
    assert {name.split("_")[0] for name in changed} == {"block3", "logits"}
    found = quantization.Runner(quantization.convert(quantized, "qat"))(images)
    agreement = quantization.simulation_agreement(quantized, images, found)
    assert agreement.within_a_step > 0.98
    kept = {layer.name for layer in quantized.layers if isinstance(layer, layers.BatchNormalization)} - changed
    assert len(kept) == 1 + 3 * 2  # The stem's, and three of each block before the third.
