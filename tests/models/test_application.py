"""Backbones of keras.applications, compared with their own path through `preprocess_input`."""

import urllib.error

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from keras_vision import derma, models, quantization
from keras_vision.models.application import _not_downloaded, preprocessing
from keras_vision.recipe import InputError, ModelSpec

VGG = {"backbone": "VGG19", "cut_layer": "block2_conv1"}


def spec(**fields):
    return ModelSpec(**{"architecture": "application", **VGG, **fields})


@pytest.fixture(scope="module")
def vgg19():
    """keras.applications' own network, without its top and with random weights."""
    keras.utils.set_random_seed(0)
    return keras.applications.VGG19(weights=None, include_top=False, input_shape=(None, None, 3))


@pytest.fixture(scope="module")
def published(vgg19, tmp_path_factory):
    """A file in the layout of the published one, written by Keras 2."""
    path = tmp_path_factory.mktemp("vgg") / "notop.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, vgg19)
    return path


@pytest.fixture(scope="module", params=["h5", "weights.h5", "keras"])
def saved(request, vgg19, published):
    path = published.with_suffix(f".{request.param}")
    if request.param == "weights.h5":
        vgg19.save_weights(path)
    elif request.param == "keras":
        vgg19.save(path)
    return path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 32, 36, 3), dtype=np.uint8)


def features(model):
    return keras.Model(model.input, model.get_layer("avgpool").output)


@pytest.mark.parametrize(
    ("name", "scale", "offset", "order"),
    [
        ("MobileNetV2", 1 / 127.5, -1, [0, 1, 2]),
        ("EfficientNetB0", 1, 0, [0, 1, 2]),
        ("VGG19", 1, [-123.68, -116.779, -103.939], [2, 1, 0]),
        ("DenseNet121", [1 / 255 / 0.229, 1 / 255 / 0.224, 1 / 255 / 0.225], None, [0, 1, 2]),
    ],
)
def test_preprocessing_is_read_as_scale_offset_and_channel_order(name, scale, offset, order):
    measured = preprocessing(getattr(keras.applications, name))
    np.testing.assert_allclose(measured[0], scale, rtol=1e-12)
    if offset is not None:
        np.testing.assert_allclose(np.array(measured[1]), np.broadcast_to(offset, np.shape(measured[1])), rtol=1e-12)
    assert measured[2] == order


@pytest.mark.parametrize("channels", [3, 1])
def test_features_are_those_of_the_application_itself(vgg19, saved, images, channels, capsys):
    """A gray image gives the features of the colour image with equal channels."""
    images = images[..., :channels]
    model = models.build(spec(weights=str(saved)), images.shape[1:], 3)
    assert f"loaded from {saved}" in capsys.readouterr().out
    assert_features_are_those_of(vgg19, model, images)


def test_weights_of_a_network_inside_of_a_saved_model(vgg19, images, tmp_path, capsys):
    """A transfer model as tutorials build it; two such networks would leave open which one is meant."""
    x = inputs = keras.Input((32, 36, 3))
    x = vgg19(keras.applications.vgg19.preprocess_input(x))
    keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x))).save(tmp_path / "transfer.keras")
    model = models.build(spec(weights=str(tmp_path / "transfer.keras")), images.shape[1:], 3)
    assert "loaded from" in capsys.readouterr().out
    assert_features_are_those_of(vgg19, model, images)
    other = keras.Sequential([keras.Input((32, 36, 3)), layers.Conv2D(3, 1), layers.Flatten(), layers.Dense(2)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(InputError, match="other.keras cannot be loaded into VGG19 .* built around it"):
        models.build(spec(weights=str(tmp_path / "other.keras")), images.shape[1:], 3)


def test_imagenet_weights_are_keras_own_download(vgg19, published, images, monkeypatch):
    """Keras checks the file's hash; here another file of the same layout replaces it."""
    request = {}

    def get_file(name, url, **arguments):
        request.update(name=name, url=url, **arguments)
        return str(published)

    monkeypatch.setattr(file_utils, "get_file", get_file)
    model = models.build(spec(weights="imagenet", unfreeze="none"), images.shape[1:], 3)
    assert request["name"] == request["url"].rpartition("/")[2] == "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert len(request["file_hash"]) == 32
    assert_features_are_those_of(vgg19, model, images)


def assert_features_are_those_of(vgg19, model, images):
    channels = images.shape[-1]
    inputs = keras.applications.vgg19.preprocess_input(np.repeat(images, 3 // channels, axis=-1).astype("float32"))
    maps = keras.Model(vgg19.input, vgg19.get_layer("block2_conv1").output).predict(inputs, verbose=0)
    actual = features(model).predict(images, verbose=0)
    np.testing.assert_allclose(actual, maps.mean(axis=(1, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "cut"), [("MobileNetV2", "block_2_add"), ("ResNet50", "conv2_block1_out")])
def test_backbones_compute_what_the_application_does(name, cut, images, tmp_path):
    """With randomized statistics; ResNet50 takes BGR, MobileNetV2 RGB."""
    keras.utils.set_random_seed(0)
    function = getattr(keras.applications, name)
    whole = function(weights=None, include_top=False, input_shape=(32, 36, 3))
    rng = np.random.default_rng(0)
    for layer in whole.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, part.shape) for part in layer.get_weights()])
    whole.save_weights(tmp_path / "notop.weights.h5")
    family = getattr(keras.applications, function.__module__.rpartition(".")[2])
    inputs = family.preprocess_input(images.astype("float32"))
    maps = keras.Model(whole.input, whole.get_layer(cut).output).predict(inputs, verbose=0)
    fields = {"backbone": name, "cut_layer": cut, "weights": str(tmp_path / "notop.weights.h5")}
    model = models.build(spec(**fields), images.shape[1:], 3)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    np.testing.assert_allclose(
        features(model).predict(images, verbose=0), maps.mean(axis=(1, 2)), rtol=1e-3, atol=1e-4 * np.ptp(maps)
    )


def test_the_network_ends_at_the_named_layer_and_has_the_specified_head():
    model = models.build(spec(head_units=128, head_dropout=0.5, input_size=32), (28, 28, 3), 7)
    assert [layer.name for layer in model.layers] == [
        "images",
        "rescaling",
        "resizing",
        "block1_conv1",
        "block1_conv2",
        "block1_pool",
        "block2_conv1",
        "avgpool",
        "hidden",
        "dropout",
        "logits",
    ]
    # By hand: 3*3*3*64 + 64, 9*64*64 + 64, 9*64*128 + 128, then 128*128 + 128 and 128*7 + 7.
    assert model.count_params() == 1_792 + 36_928 + 73_856 + 16_512 + 903
    assert model.get_layer("resizing").output.shape == (None, 32, 32, 3)


def test_without_a_cut_the_full_backbone_is_used():
    model = models.build(spec(backbone="MobileNetV2", cut_layer=None), (32, 32, 1), 7)
    assert model.get_layer("avgpool").output.shape == (None, 1280)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_integer_file_predicts_as_its_simulation(channels):
    keras.utils.set_random_seed(0)
    model = models.build(spec(input_size=32, head_units=8), (28, 28, channels), 5)
    images = np.random.default_rng(0).integers(0, 256, (32, 28, 28, channels), dtype=np.uint8)
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, images, logits=True)
    content = quantization.convert(quantized, "qat", logits=True)
    agreement = quantization.simulation_agreement(quantized, images, quantization.Runner(content)(images), logits=True)
    assert agreement.within_a_step >= 0.98
    assert quantization.audit(content).kind == "full-integer"


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"backbone": "VGG91"}, (32, 32, 3), "--backbone takes .* such as VGG19, VGG16.*Received: VGG91"),
        ({"cut_layer": "block2_cnv"}, (32, 32, 3), "--cut-layer takes .* block2_conv.*Received: block2_cnv"),
        ({}, (28, 28, 3), r"VGG19 cannot be built for images of 28 x 28 pixels \(Input size must be at least 32"),
        ({"input_size": 16, "weights": "imagenet"}, (64, 64, 3), "Choose another --input-size or --backbone"),
        ({}, (32, 32, 4), r"VGG19 takes images of 1 or 3 channels. Received: images of shape \(32, 32, 4\)"),
        ({}, (32, 32, 32, 1), "VGG19 takes images"),
    ],
)
def test_a_network_that_cannot_be_built_is_an_error_of_one_line(fields, shape, message):
    with pytest.raises(InputError, match=message) as caught:
        models.build(spec(**fields), shape, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a weights file"])
@pytest.mark.parametrize("suffix", ["h5", "weights.h5", "keras", "txt"])
def test_a_file_that_cannot_be_read(tmp_path, suffix, content):
    path = tmp_path / f"vgg.{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"vgg.* cannot be loaded into VGG19 \(.*include_top=False") as caught:
        models.build(spec(weights=str(path)), (32, 32, 3), 3)
    assert "\n" not in str(caught.value)


def test_weights_of_another_backbone_are_refused(tmp_path):
    keras.applications.MobileNetV2((32, 32, 3), weights=None, include_top=False).save(tmp_path / "other.h5")
    with pytest.raises(InputError, match="cannot be loaded into VGG19"):
        models.build(spec(weights=str(tmp_path / "other.h5")), (32, 32, 3), 3)


def test_weights_of_a_backbone_whose_stem_is_nested(tmp_path):
    keras.utils.set_random_seed(0)
    whole = keras.applications.ConvNeXtTiny(weights=None, include_top=False, input_shape=(32, 32, 3))
    whole.save_weights(tmp_path / "notop.weights.h5")
    weights = str(tmp_path / "notop.weights.h5")
    model = models.build(spec(backbone="ConvNeXtTiny", cut_layer=None, weights=weights), (32, 32, 3), 3)
    name = "convnext_tiny_stage_0_block_0_depthwise_conv"
    np.testing.assert_array_equal(*(net.get_layer(name).get_weights()[0] for net in (model, whole)))


def test_where_to_put_a_file_that_keras_keeps_under_another_name():
    address = "https://storage.googleapis.com/tensorflow/keras-applications/nasnet/NASNet-mobile-no-top.h5"
    message = str(_not_downloaded(spec(backbone="NASNetMobile"), "no route", address))
    assert f"fetch {address} by hand and put it at " in message
    assert "nasnet_mobile_no_top.h5;" in message


@pytest.mark.parametrize(
    ("backbone", "file"),
    [("VGG19", "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"), ("EfficientNetB0", "efficientnetb0_notop.h5")],
)
def test_without_a_network_three_ways_out_are_named(monkeypatch, tmp_path, capsys, backbone, file):
    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    # Keras reads the path of its cache on import.
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    monkeypatch.setattr(file_utils, "urlretrieve", no_network)
    flags = ["--architecture", "application", "--backbone", backbone, "--weights", "imagenet", "--input-size", "32"]
    assert derma.main([*flags, "--data", "synthetic", "--limit", "30", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    place = str(tmp_path / "keras" / "models" / file)
    for part in ("https://storage.googleapis.com/", place, "no route to host", "--weights PATH", "--weights none"):
        assert part in error
    assert error.count("\n") == 1
