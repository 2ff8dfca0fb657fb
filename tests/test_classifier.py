"""A classifier is opened from what people have: its classes, its input range, its probabilities."""

import dataclasses
import json
import os
import warnings

import cv2
import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import explain, predict, quantization
from keras_vision.classifier import Classifier
from keras_vision.recipe import InputError

pytestmark = pytest.mark.backend
SIZE = (12, 12, 3)


def network(*first, units=3, activation=None):
    """A tiny network; `first` are its first layers."""
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input(SIZE), *first, *body, layers.Dense(units, activation=activation)])


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, *SIZE), dtype=np.uint8)


@pytest.fixture(scope="module")
def photo(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    cv2.imwrite(str(path), cv2.cvtColor(images[0], cv2.COLOR_RGB2BGR))
    return str(path)


def softmax(logits):
    return np.array(keras.ops.softmax(logits))


def saved(model, folder, name="my.keras"):
    model.save(folder / name)
    return folder / name


def written(model, folder, scheme="float32", *, mean=0.0, std=1.0, labels=("a", "b", "c"), images=None, **settings):
    content = quantization.convert(model, scheme, images, **settings)
    metadata = quantization.Metadata("toy", "A toy.", "1", "CC0", labels, mean, std)
    (folder / f"{scheme}.tflite").write_bytes(quantization.add_metadata(content, metadata))
    return folder / f"{scheme}.tflite"


def test_a_model_that_scales_pixels_takes_them_as_they_are(tmp_path, images):
    model = network(layers.Rescaling(1 / 127.5, -1))
    found = Classifier.open(saved(model, tmp_path))
    assert found.input_range == (0.0, 255.0)
    assert found.class_names == ("class 0", "class 1", "class 2")
    assert not found.has_names
    np.testing.assert_allclose(found.probabilities(images), softmax(model.predict(images, verbose=0)), atol=1e-5)


@pytest.mark.parametrize(
    "before",
    [[layers.RandomFlip()], [layers.RandomRotation(0.1), layers.GaussianNoise(0.1)], [layers.Resizing(9, 9)]],
)
def test_layers_that_keep_the_range_may_come_before_the_scaling(before, tmp_path, images):
    """As Keras's tutorials write them."""
    model = network(*before, layers.Rescaling(1 / 255))
    found = Classifier.open(saved(model, tmp_path))
    assert found.input_range == (0.0, 255.0)
    np.testing.assert_allclose(found.probabilities(images), softmax(model.predict(images, verbose=0)), atol=1e-5)


def test_a_range_that_contradicts_the_file_is_refused(tmp_path, images, photo, capsys):
    """Its answers would look right."""
    scaled, bare = network(layers.Rescaling(1 / 255)), network()
    of_run = tmp_path / "run"
    of_run.mkdir()
    (of_run / "recipe.json").write_text("{}")
    saved(network(layers.Rescaling(1 / 255)), of_run, "model.keras")
    files = [saved(scaled, tmp_path), of_run, written(scaled, tmp_path, "int8", images=images)]
    # The file's bytes stand for 0..1, so by that name they are the same.
    same = Classifier.open(files[2], input_range=(0, 1)).probabilities(images)
    np.testing.assert_array_equal(same, Classifier.open(files[2]).probabilities(images))
    for file in files:
        assert predict.main([str(file), photo, "--input-range", "-5", "5"]) == 2
        error = capsys.readouterr().err
        assert "--input-range -5 5 contradicts. Leave the flag out" in error
        assert error.count("\n") == 1
        same = Classifier.open(file, input_range=(0, 255), class_names=("a", "b", "c")).probabilities(images)
        np.testing.assert_array_equal(same, Classifier.open(file).probabilities(images))
    assert predict.main([str(saved(bare, tmp_path, "bare.keras")), photo, "--input-range", "1", "0"]) == 2
    assert "takes the lower value first. Received: 1 0" in capsys.readouterr().err


def test_metadata_may_be_wrong_and_the_user_knows_better(tmp_path, images):
    model = network()
    file = written(model, tmp_path, mean=127.5, std=127.5)
    expected = softmax(model.predict(images / np.float32(255), verbose=0))
    np.testing.assert_allclose(Classifier.open(file, input_range=(0, 1)).probabilities(images), expected, atol=1e-5)


def test_tflite_files_that_do_not_classify_images_of_one_size_are_refused(tmp_path, photo, capsys):
    one = keras.Input(SIZE)
    maps = layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(one))
    (tmp_path / "maps.tflite").write_bytes(quantization.convert(keras.Model(one, maps), "float32"))
    assert predict.main([str(tmp_path / "maps.tflite"), photo, "--input-range", "0", "255"]) == 2
    assert "has outputs of shape (1, 10, 10, 4), so it does not classify images" in capsys.readouterr().err


def test_no_images_have_no_probabilities(tmp_path, images):
    found = Classifier.open(saved(network(layers.Rescaling(1 / 255)), tmp_path))
    assert found.probabilities(images[:0]).shape == (0, 3)


def test_normalization_with_statistics_of_pixels_is_understood(tmp_path):
    of_pixels = layers.Normalization(mean=(120.0, 110.0, 100.0), variance=(60.0**2,) * 3)
    assert Classifier.open(saved(network(of_pixels), tmp_path)).input_range == (0.0, 255.0)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param([], id="nothing"),
        pytest.param([layers.Rescaling(2.0, -1.0)], id="rescaling of 0..1"),
        pytest.param([layers.Normalization(mean=0.5, variance=0.05)], id="normalization of 0..1"),
    ],
)
def test_an_input_range_that_nothing_says_is_asked_for(first, tmp_path, images, photo, capsys):
    """The answer for 0..255 would look right and be wrong."""
    model = network(*first)
    path = saved(model, tmp_path)
    with pytest.raises(InputError, match="Pass --input-range 0 1"):
        Classifier.open(path)
    for command in (predict, explain):
        assert command.main([str(path), photo]) == 2
        assert "its input range is not known" in capsys.readouterr().err
    found = Classifier.open(path, input_range=(0, 1))
    expected = softmax(model.predict(images / 255, verbose=0))
    np.testing.assert_allclose(found.probabilities(images), expected, atol=1e-5)
    out = str(tmp_path / "out")
    assert predict.main([str(path), photo, "--input-range", "0", "1"]) == 0
    assert f"class {expected[0].argmax()} {expected[0].max():.3f}" in capsys.readouterr().out
    assert explain.main([str(path), photo, "--input-range", "0", "1", "--out", out]) == 0
    assert f"class {expected[0].argmax()} {expected[0].max():.3f}" in capsys.readouterr().out


def test_a_runs_model_needs_no_question(tmp_path, images):
    (tmp_path / "recipe.json").write_text("{}")
    (tmp_path / "labels.txt").write_text("ant\nbee\ncat\n\n")
    saved(network(layers.Rescaling(1 / 255)), tmp_path, "model.keras")
    found = Classifier.open(tmp_path)
    assert found.class_names == ("ant", "bee", "cat")
    assert Classifier.open(tmp_path / "model.keras").class_names == found.class_names


@pytest.mark.parametrize(("mean", "std", "low", "high"), [(127.5, 127.5, -1, 1), (0.0, 255.0, 0, 1)])
def test_the_normalization_in_a_files_metadata_is_honoured(mean, std, low, high, tmp_path, images):
    model = network()
    found = Classifier.open(written(model, tmp_path, mean=mean, std=std))
    assert found.input_range == (low, high)
    expected = softmax(model.predict(low + images * np.float32((high - low) / 255), verbose=0))
    np.testing.assert_allclose(found.probabilities(images), expected, atol=1e-5)


def test_normalization_for_each_channel_is_honoured(tmp_path, images):
    """ImageNet's mean and deviation, which most torch networks were trained with."""
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    model = network()
    found = Classifier.open(written(model, tmp_path, mean=mean, std=std))
    expected = softmax(model.predict((images - np.float32(mean)) / np.float32(std), verbose=0))
    np.testing.assert_allclose(found.probabilities(images), expected, atol=1e-5)


def test_a_float_file_without_metadata_is_asked_about(tmp_path, images, photo, capsys):
    model = network()
    path = tmp_path / "bare.tflite"
    path.write_bytes(quantization.convert(model, "float32"))
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    flags = [str(path), photo, "--labels", str(tmp_path / "names.txt")]
    assert predict.main(flags) == 2
    assert "takes float32 images, and no metadata says in which range" in capsys.readouterr().err
    assert predict.main([*flags, "--input-range", "-1", "1"]) == 0
    expected = softmax(model.predict(images[:1] / np.float32(127.5) - 1, verbose=0))[0]
    assert f"{'abc'[expected.argmax()]} {expected.max():.3f}" in capsys.readouterr().out


@pytest.mark.parametrize("io", ["uint8", "int8", "float32"])
def test_an_integer_file_takes_bytes_or_floats(io, tmp_path, images):
    model = network(layers.Rescaling(1 / 127.5, -1))
    path = written(model, tmp_path, "int8", images=images, io=io)
    expected = softmax(model.predict(images, verbose=0))
    np.testing.assert_allclose(Classifier.open(path).probabilities(images), expected, atol=0.03)


def test_an_int8_input_is_normalized_channel_by_channel(tmp_path, images):
    """A file of a model on images with ImageNet's mean and deviation, as other tools quantize it: not bytes."""
    mean, std = np.float32((123.675, 116.28, 103.53)), np.float32((58.395, 57.12, 57.375))
    model = network()
    normalized = (images - mean) / std
    quantized = quantization.with_fake_quantization(model, input_range=(-2.2, 2.7))
    quantization.set_ranges(quantized, model, normalized)
    content = quantization.convert(quantized, "qat", io="int8")
    metadata = quantization.Metadata("toy", "A toy.", "1", "CC0", ("a", "b", "c"), tuple(mean), tuple(std))
    (tmp_path / "int8.tflite").write_bytes(quantization.add_metadata(content, metadata))
    found = Classifier.open(tmp_path / "int8.tflite").probabilities(images)
    np.testing.assert_allclose(found, softmax(model.predict(normalized, verbose=0)), atol=0.03)


@pytest.mark.parametrize("activation", ["sigmoid", None], ids=["sigmoid", "logit"])
def test_one_output_means_two_classes(activation, tmp_path, images, photo, capsys):
    model = network(layers.Rescaling(1 / 255), units=1, activation=activation)
    second = np.array(model.predict(images, verbose=0))[:, 0]
    second = second if activation else 1 / (1 + np.exp(-second))
    expected = np.stack([1 - second, second], axis=1)
    path = saved(model, tmp_path)
    (tmp_path / "labels.txt").write_text("healthy\nbroken\n")
    for file in (path, written(model, tmp_path, labels=("healthy", "broken"))):
        found = Classifier.open(file)
        assert found.class_names == ("healthy", "broken")
        np.testing.assert_allclose(found.probabilities(images), expected, atol=1e-5)
        for name in found.class_names:
            out = str(tmp_path / f"{file.suffix[1:]}-{name}")
            assert explain.main([str(file), photo, "--class", name, "--out", out]) == 0
            assert predict.main([str(file), photo]) == 0
    assert "healthy" in capsys.readouterr().out


def test_files_that_return_logits_are_turned_into_probabilities(tmp_path, images):
    model = network(layers.Rescaling(1 / 255))
    expected = softmax(model.predict(images, verbose=0))
    for logits in (False, True):
        found = Classifier.open(written(model, tmp_path, logits=logits)).probabilities(images)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_run_a_keras_file_and_a_tflite_file_predict_alike(tmp_path, images, photo, capsys):
    model = network(layers.Rescaling(1 / 255))
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    run, file = saved(model, tmp_path, "model.keras").parent, written(model, tmp_path)
    shown = []
    for path in (run, run / "model.keras", file):
        assert predict.main([str(path), photo, "--top", "3"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] == shown[2]


def test_what_cannot_be_opened_gets_one_sentence(tmp_path, photo, capsys):
    (tmp_path / "text.keras").write_text("no archive")
    two = keras.Input(SIZE), keras.Input(SIZE)
    merged = layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.Add()(list(two))))
    saved(keras.Model(two, merged), tmp_path, "two.keras")
    maps = layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(two[0]))
    saved(keras.Model(two[0], maps), tmp_path, "maps.keras")
    free = keras.Input((None, None, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(free))
    saved(keras.Model(free, layers.Dense(2)(pooled)), tmp_path, "free.keras")
    with warnings.catch_warnings(action="ignore"):  # Keras says what we say below.
        saved(keras.Sequential([layers.Dense(2)]), tmp_path, "unbuilt.keras")
    for name, message in (
        ("text.keras", "cannot be read as a Keras model"),
        ("two.keras", "has 2 inputs and 1 outputs"),
        ("maps.keras", "does not classify images"),
        ("free.keras", "takes images of any size"),
        ("unbuilt.keras", "was never built"),
        ("none.keras", "is not a run's folder with a model.keras"),
    ):
        for command in (predict, explain):
            assert command.main([str(tmp_path / name), photo]) == 2
            error = capsys.readouterr().err
            assert message in error
            assert error.count("\n") == 1


def test_hostile_files_beside_a_model_get_one_sentence(tmp_path, images, photo, capsys):
    model = written(network(layers.Rescaling(1 / 255)), tmp_path, "int8", images=images)
    card = model.with_suffix(".json")
    for text, message in (("[" * 100_000, "nested too deeply"), ("{", "is damaged"), ("9" * 5000, "is damaged")):
        card.write_text(text)
        for command in (predict.main, explain.main):
            assert command([str(model), photo]) == 2
            error = capsys.readouterr().err
            assert message in error
            assert error.count("\n") == 1
    # What is readable, but says something else, is not a reason to refuse the model.
    for resize in ([1], {}, "diagonal", 10**30):
        card.write_text(json.dumps({"sha256": 1, "data": {"resize": resize}}))
        assert Classifier.open(model).resize == "stretch"
    for values in (1, [1], [2, 1], ["0", "1"], [0, None], [0, 1e400], {}, [0, 10**400]):
        card.write_text(json.dumps({"sha256": 1, "data": {"intensity_range": values}}))
        assert Classifier.open(model).intensity_range is None


def test_pipes_devices_and_folders_are_no_models(tmp_path, photo, capsys):
    os.mkfifo(tmp_path / "pipe.tflite")
    os.mkfifo(tmp_path / "pipe.keras")
    (tmp_path / "folder.tflite").mkdir()
    (tmp_path / "loop.tflite").symlink_to("loop.tflite")
    (tmp_path / "zero.tflite").symlink_to("/dev/zero")
    for path in sorted(tmp_path.iterdir()):
        for command in (predict.main, explain.main):
            assert command([str(path), photo]) == 2
            error = capsys.readouterr().err
            assert path.name in error
            assert error.count("\n") == 1


@pytest.mark.parametrize(("side", "factor"), [(20_000, 1), (20, 1000)])
def test_a_model_of_gigantic_images_or_feature_maps_is_refused(tmp_path, side, factor):
    images = keras.Input((side, side, 3))
    large = layers.UpSampling2D(factor)(layers.Rescaling(1 / 255)(images))
    path = saved(keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(large))), tmp_path)
    with pytest.raises(InputError, match="a layer whose output is more than 268,435,456 values an image"):
        Classifier.open(path)


def test_names_must_be_as_many_as_classes(tmp_path):
    with pytest.raises(InputError, match="has 3 classes. Received: 2 class names"):
        Classifier.open(saved(network(layers.Rescaling(1 / 255)), tmp_path), class_names=("a", "b"))


def test_images_of_another_shape_are_refused(tmp_path, images):
    found = Classifier.open(saved(network(layers.Rescaling(1 / 255)), tmp_path))
    with pytest.raises(InputError, match="takes images of shape"):
        found.probabilities(images[:, :8])


def test_a_uint8_input_takes_bytes_whatever_its_metadata_says(tmp_path, images):
    """As phones' libraries do."""
    model = network(layers.Rescaling(1 / 127.5, -1))
    path = written(model, tmp_path, "int8", images=images)
    metadata = quantization.read_metadata(path.read_bytes())
    expected = Classifier.open(path).probabilities(images)
    other = dataclasses.replace(metadata, mean=127.5, std=127.5)
    path.write_bytes(quantization.add_metadata(path.read_bytes(), other))
    np.testing.assert_array_equal(Classifier.open(path).probabilities(images), expected)
