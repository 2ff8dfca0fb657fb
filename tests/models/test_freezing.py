"""Frozen layers: which they are, and that nothing changes their weights."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import models, quantization, training
from keras_vision.data import Batches, synthetic
from keras_vision.pipeline.track import _in_float32
from keras_vision.recipe import InputError, ModelSpec, TrainingSpec

RESNET = {"architecture": "resnet18", "width": 2}
# Faster to compile, with the same types of layers.
SMALL = {"architecture": "small_resnet", "width": 2}
SHAPE = (28, 28, 3)


@pytest.fixture(scope="module")
def batches():
    splits = synthetic.lesions(seed=0, size=28).limited(40)
    return [Batches(part, splits.num_classes, 16) for part in (splits.train, splits.val)]


def build(unfreeze, **fields):
    keras.utils.set_random_seed(0)
    return models.build(ModelSpec(**{**RESNET, "unfreeze": unfreeze, **fields}), SHAPE, 7)


def trainable_layers(model):
    return [layer.name for layer in model.layers if layer.trainable_weights]


def weights(model):
    return {variable.path: np.array(keras.ops.convert_to_numpy(variable)) for variable in model.weights}


def changed_layers(before, after):
    return {path.split("/")[0] for path in before if not np.array_equal(before[path], after[path])}


def test_none_trains_only_the_head():
    assert trainable_layers(build("none")) == ["logits"]
    assert trainable_layers(build("none", head_units=4, head_dropout=0.5)) == ["hidden", "logits"]
    assert trainable_layers(build("none", architecture="plain_cnn")) == ["dense256", "dense128", "logits"]


def test_the_head_is_found_after_a_backbone_with_vectors_inside():
    """EfficientNet's squeeze-and-excitation blocks pool the image to a vector."""
    model = build(
        "none", architecture="application", backbone="EfficientNetB0", cut_layer="block2a_dwconv", input_size=32
    )
    assert trainable_layers(model) == ["logits"]


def test_the_name_of_a_section_trains_it_and_all_after_it():
    names = trainable_layers(build("layer4"))
    assert {name.split("_")[0] for name in names} == {"layer4", "logits"}
    # Two blocks of two convolutions with normalizations, a projection, logits.
    assert len(names) == 2 * (2 + 2 + 1) + 1


def test_the_name_of_a_layer_trains_it_and_all_after_it():
    assert trainable_layers(build("layer4_1_bn2")) == ["layer4_1_bn2", "logits"]


def test_all_layers_are_trainable_by_default():
    model = build("all")
    assert trainable_layers(model) == [layer.name for layer in model.layers if layer.weights]


def test_the_whitening_layer_is_never_trained():
    assert "whitening" not in trainable_layers(build("all", architecture="whitened_cnn"))


@pytest.mark.parametrize("name", ["layer44", "layer", "layer4_1_bn"])
def test_an_unknown_layer_is_refused(name):
    with pytest.raises(InputError, match=f"--unfreeze takes all, none or a layer's name, such as layer.*: {name}."):
        build(name)


def test_trainable_weights_and_random_frozen_layers_are_reported(capsys):
    build("none")
    output = capsys.readouterr().out
    # 16 features and 7 classes.
    assert "Frozen: all layers before avgpool; 119 of" in output
    assert "the metrics are meaningless" in output


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer": "sgd", "weight_decay": 0.1, "learning_rate": 0.01, "patience": 1},
        pytest.param({"ema_momentum": 0.5}, marks=pytest.mark.backend),
    ],
    ids=["decay", "average"],
)
def test_training_changes_only_trainable_layers(batches, fields):
    model = build("block3", **SMALL)
    before = weights(model)
    training.fit(model, *batches, TrainingSpec(**{"epochs": 1, "learning_rate": 0.1, "patience": 0, **fields}))
    assert changed_layers(before, weights(model)) == set(trainable_layers(model))


def test_the_range_test_does_not_change_a_partly_frozen_network(batches):
    model = build("block3", **SMALL)
    training.compile_model(model, TrainingSpec(), steps_per_epoch=3)
    before = weights(model)
    training.range_test(model, batches[0], steps=10, verbose=False)
    assert not changed_layers(before, weights(model))
    assert {name.split("_")[0] for name in trainable_layers(model)} == {"block3", "logits"}


@pytest.mark.backend
def test_mixed_precision_returns_a_float32_network_with_the_same_layers_frozen(batches, half_precision):
    fields = {"architecture": "application", "backbone": "VGG19", "cut_layer": "block2_conv1", "input_size": 32}
    with half_precision():
        model = build("block2", head_dropout=0.5, **fields)
    training.fit(model, *batches, TrainingSpec(epochs=1, patience=0))
    converted = _in_float32(model)
    assert {layer.compute_dtype for layer in converted.layers} == {"float32"}
    assert trainable_layers(converted) == trainable_layers(model)
    assert not changed_layers(weights(model), weights(converted))
    images = batches[1].split.images
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(converted.predict(images, verbose=0), expected, atol=0.1 * np.ptp(expected))


def test_a_float32_network_is_not_converted():
    model = build("none")
    assert _in_float32(model) is model


def test_a_saved_network_has_the_same_layers_frozen(tmp_path):
    model = build("block3", **SMALL)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert trainable_layers(loaded) == trainable_layers(model)
    assert not changed_layers(weights(model), weights(loaded))


def test_fine_tuning_for_quantization_keeps_frozen_layers(batches):
    """Frozen layers stay frozen with fake quantization; the file still predicts as its simulation."""
    model = build("block3", **SMALL)
    quantized = quantization.with_fake_quantization(model)
    images = batches[0].split.images
    quantization.set_ranges(quantized, model, images)
    before = weights(quantized)
    training.fit(training.student_of(model, quantized), *batches, TrainingSpec(epochs=1, patience=0))
    changed = {name for name in changed_layers(before, weights(quantized)) if not name.endswith("_range")}
    assert {name.split("_")[0] for name in changed} == {"block3", "logits"}
    outputs = quantization.Runner(quantization.convert(quantized, "qat"))(images)
    agreement = quantization.simulation_agreement(quantized, images, outputs)
    assert agreement.within_a_step > 0.98
    kept = {layer.name for layer in quantized.layers if isinstance(layer, layers.BatchNormalization)} - changed
    assert len(kept) == 1 + 3 * 2  # The stem's, and three per block before the third.
