"""Starting from another run: which layers are taken, and what becomes of the first convolution."""

import keras
import numpy as np
import pytest

from keras_vision import cifar, models
from keras_vision.models.channels import fit_channels
from keras_vision.recipe import InputError, ModelSpec


def spec(**knobs):
    return ModelSpec(**{"architecture": "resnet18", "width": 2, **knobs})


@pytest.fixture
def run(tmp_path):
    """Leaves a run with a model: a function of its image shape, its classes and knobs."""

    def leave(image_shape, num_classes, **knobs):
        keras.utils.set_random_seed(1)
        model = models.build(spec(**knobs), image_shape, num_classes)
        rng = np.random.default_rng(0)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights([rng.uniform(0.5, 1.5, part.shape) for part in layer.get_weights()])
        (tmp_path / "run").mkdir()
        model.save(tmp_path / "run" / "model.keras")
        return tmp_path / "run" / "model.keras", model

    return leave


def test_a_kernel_for_gray_and_one_for_colour_by_hand():
    colour = np.array([1.0, 2.0, 6.0]).reshape(1, 1, 3, 1)
    assert fit_channels(colour, (1, 1, 1, 1)).ravel().tolist() == [9]
    assert fit_channels(np.full((1, 1, 1, 1), 9.0), (1, 1, 3, 1)).ravel().tolist() == [3, 3, 3]
    assert fit_channels(colour, (1, 1, 2, 1)) is None
    assert fit_channels(colour, (3, 3, 1, 1)) is None
    assert fit_channels(colour, (1, 1, 1, 5)) is None


@pytest.mark.parametrize(("there", "here"), [(1, 3), (3, 1), (3, 3)])
def test_gray_pictures_give_the_same_whichever_channels_they_have(run, there, here, capsys):
    file, source = run((32, 32, there), 4)
    model = models.build(spec(init_from=str(file)), (32, 32, here), 4)
    assert "Taken: 41 of 41 layers with weights" in capsys.readouterr().out
    gray = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    expected = source.predict(np.repeat(gray, there, axis=-1), verbose=0)
    np.testing.assert_allclose(model.predict(np.repeat(gray, here, axis=-1), verbose=0), expected, atol=1e-4)


def test_other_classes_and_another_head_are_left_out_and_named(run, capsys):
    file, source = run((64, 64, 1), 10)
    model = models.build(spec(init_from=str(file), head_units=8), (32, 32, 3), 7)
    said = capsys.readouterr().out
    assert f"Taken: 40 of 42 layers with weights, from {folder}." in said
    assert "Not taken: hidden (not there), logits (another shape)." in said
    found, expected = (net.get_layer("layer4_1_bn2").get_weights() for net in (model, source))
    assert all(map(np.array_equal, found, expected))


def test_frozen_layers_start_from_the_file(run, capsys):
    file, source = run((32, 32, 3), 4, unfreeze="none")
    model = models.build(spec(init_from=str(file), unfreeze="layer4"), (32, 32, 3), 4)
    assert "random weights" not in capsys.readouterr().out.partition("Taken")[2]
    assert not model.get_layer("conv1").trainable
    assert model.get_layer("layer4_0_conv1").trainable
    np.testing.assert_array_equal(model.get_layer("conv1").get_weights()[0], source.get_layer("conv1").get_weights()[0])


def test_what_no_run_gave_is_not_kept_at_random(run):
    file, _ = run((32, 32, 3), 4)
    with pytest.raises(InputError, match="gives nothing for conv1, which --unfreeze layer4 .* --unfreeze conv1"):
        models.build(spec(init_from=str(file), stem="imagenet", unfreeze="layer4"), (32, 32, 3), 4)


def test_many_that_were_not_taken_are_counted(run, capsys):
    file, _ = run((32, 32, 3), 4)
    models.build(spec(init_from=str(file), architecture="cifar_resnet"), (32, 32, 3), 4)
    assert "(not there) and" in capsys.readouterr().out


def test_nothing_taken_is_an_error(run):
    file, _ = run((32, 32, 3), 4)
    with pytest.raises(InputError, match="Received: a resnet18 for a plain_cnn"):
        models.build(spec(init_from=str(file), architecture="plain_cnn", width=4), (32, 32, 3), 5)


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as a Keras model") as caught:
        models.build(spec(init_from=str(tmp_path)), (32, 32, 3), 4)
    assert "\n" not in str(caught.value)


def test_a_model_that_carries_code_is_not_run(tmp_path):
    images = keras.Input((32, 32, 3))
    logits = keras.layers.Dense(4)(keras.layers.Flatten()(keras.layers.Lambda(lambda x: x + 1)(images)))
    keras.Model(images, logits).save(tmp_path / "model.keras")
    with pytest.raises(InputError, match="cannot be read as a Keras model"):
        models.build(spec(init_from=str(tmp_path / "model.keras")), (32, 32, 3), 4)


def test_from_a_gray_run_to_one_in_colour(write_npz, tmp_path, capsys):
    """Through the command line: the first run's folder is the second one's start."""
    small = ["--recipe", "resnet18", "--epochs", "1", "--width", "2", "--bootstrap", "10", "--explain", "none"]
    small += ["--faithfulness-images", "0", "--batch-size", "16"]
    gray = write_npz("gray.npz", shape=(16, 16), num_classes=2)
    assert cifar.main([*small, "--data", str(gray), "--out", str(tmp_path / "first")]) == 0
    colour = write_npz("colour.npz", shape=(16, 16, 3), num_classes=3)
    flags = ["--data", str(colour), "--init-from", str(tmp_path / "first"), "--unfreeze", "layer4"]
    assert cifar.main([*small, *flags, "--precision", "mixed_bfloat16", "--out", str(tmp_path / "second")]) == 0
    said = capsys.readouterr().out
    assert "Taken: 40 of 41 layers" in said
    assert "logits (another shape)" in said
    first, second = (keras.saving.load_model(tmp_path / name / "model.keras") for name in ("first", "second"))
    kept = [net.get_layer("layer3_1_bn2").get_weights() for net in (first, second)]
    assert all(map(np.array_equal, *kept))
