"""Initialization from another run: which layers are loaded, and how the first convolution is converted."""

import keras
import numpy as np
import pytest

from keras_vision import cifar, models
from keras_vision.models.channels import fit_channels
from keras_vision.recipe import InputError, ModelSpec


def spec(**fields):
    return ModelSpec(**{"architecture": "resnet18", "width": 2, **fields})


@pytest.fixture
def run(tmp_path):
    """A function that saves a run's model, from its image shape, number of classes and other fields of the spec."""

    def save(image_shape, num_classes, **fields):
        keras.utils.set_random_seed(1)
        model = models.build(spec(**fields), image_shape, num_classes)
        rng = np.random.default_rng(0)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights([rng.uniform(0.5, 1.5, part.shape) for part in layer.get_weights()])
        (tmp_path / "run").mkdir()
        model.save(tmp_path / "run" / "model.keras")
        return tmp_path / "run" / "model.keras", model

    return save


def test_kernels_for_gray_and_colour_images_by_hand():
    colour = np.array([1.0, 2.0, 6.0]).reshape(1, 1, 3, 1)
    assert fit_channels(colour, (1, 1, 1, 1)).ravel().tolist() == [9]
    assert fit_channels(np.full((1, 1, 1, 1), 9.0), (1, 1, 3, 1)).ravel().tolist() == [3, 3, 3]
    assert fit_channels(colour, (1, 1, 2, 1)) is None
    assert fit_channels(colour, (3, 3, 1, 1)) is None
    assert fit_channels(colour, (1, 1, 1, 5)) is None


@pytest.mark.parametrize(("source_channels", "channels"), [(1, 3), (3, 1), (3, 3)])
def test_gray_images_have_the_same_logits_with_one_channel_or_three(run, source_channels, channels, capsys):
    file, source = run((32, 32, source_channels), 4)
    model = models.build(spec(init_from=str(file)), (32, 32, channels), 4)
    assert "Loaded 41 of 41 layers with weights" in capsys.readouterr().out
    gray = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)
    expected = source.predict(np.repeat(gray, source_channels, axis=-1), verbose=0)
    np.testing.assert_allclose(model.predict(np.repeat(gray, channels, axis=-1), verbose=0), expected, atol=1e-4)


def test_other_classes_and_another_head_are_skipped_and_named(run, capsys):
    file, source = run((64, 64, 1), 10)
    model = models.build(spec(init_from=str(file), head_units=8), (32, 32, 3), 7)
    output = capsys.readouterr().out
    assert f"Loaded 40 of 42 layers with weights from {file}." in output
    assert "Not loaded: hidden (not in the file), logits (another shape)." in output
    actual, expected = (net.get_layer("layer4_1_bn2").get_weights() for net in (model, source))
    assert all(map(np.array_equal, actual, expected))


def test_frozen_layers_start_from_the_file(run, capsys):
    file, source = run((32, 32, 3), 4, unfreeze="none")
    model = models.build(spec(init_from=str(file), unfreeze="layer4"), (32, 32, 3), 4)
    assert "random weights" not in capsys.readouterr().out.partition("Loaded")[2]
    assert not model.get_layer("conv1").trainable
    assert model.get_layer("layer4_0_conv1").trainable
    np.testing.assert_array_equal(model.get_layer("conv1").get_weights()[0], source.get_layer("conv1").get_weights()[0])


def test_a_layer_with_random_weights_is_not_frozen(run):
    file, _ = run((32, 32, 3), 4)
    problem = "--init-from has no weights for conv1, and --unfreeze layer4 would freeze it at random values"
    with pytest.raises(InputError, match=f"{problem}. Pass --unfreeze conv1 or --unfreeze all"):
        models.build(spec(init_from=str(file), stem="imagenet", unfreeze="layer4"), (32, 32, 3), 4)


def test_many_layers_that_were_not_loaded_are_counted(run, capsys):
    file, _ = run((32, 32, 3), 4)
    models.build(spec(init_from=str(file), architecture="cifar_resnet"), (32, 32, 3), 4)
    assert "(not in the file) and" in capsys.readouterr().out


def test_no_loaded_layer_is_an_error(run):
    file, _ = run((32, 32, 3), 4)
    with pytest.raises(InputError, match="Received: a resnet18 for a plain_cnn"):
        models.build(spec(init_from=str(file), architecture="plain_cnn", width=4), (32, 32, 3), 5)


def test_a_file_that_is_not_a_model(tmp_path):
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


@pytest.mark.slow
def test_from_a_gray_run_to_one_in_colour(write_npz, tmp_path, capsys):
    """On the command line: the second run starts from the first run's folder."""
    small = ["--recipe", "resnet18", "--epochs", "1", "--width", "2", "--bootstrap", "10", "--explain", "none"]
    small += ["--faithfulness-images", "0", "--batch-size", "16"]
    gray = write_npz("gray.npz", shape=(16, 16), num_classes=2)
    assert cifar.main([*small, "--data", str(gray), "--out", str(tmp_path / "first")]) == 0
    colour = write_npz("colour.npz", shape=(16, 16, 3), num_classes=3)
    flags = ["--data", str(colour), "--init-from", str(tmp_path / "first"), "--unfreeze", "layer4"]
    assert cifar.main([*small, *flags, "--precision", "mixed_bfloat16", "--out", str(tmp_path / "second")]) == 0
    output = capsys.readouterr().out
    assert "Loaded 40 of 41 layers" in output
    assert "logits (another shape)" in output
    first, second = (keras.saving.load_model(tmp_path / name / "model.keras") for name in ("first", "second"))
    kept = [net.get_layer("layer3_1_bn2").get_weights() for net in (first, second)]
    assert all(map(np.array_equal, *kept))
