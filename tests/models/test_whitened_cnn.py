"""The whitened network: its initialization, its size and its files."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_vision import models, quantization
from keras_vision.data import synthetic
from keras_vision.recipe import InputError, ModelSpec

SPEC = ModelSpec(architecture="whitened_cnn", width=4)


@pytest.fixture(scope="module")
def images():
    return synthetic.lesions(seed=0, size=32).train.images[:128]


def test_the_first_layer_whitens_patches(images):
    model = models.build(SPEC, (32, 32, 3), 7, images)
    whitening = keras.Model(model.input, model.get_layer("whitening").output)
    outputs = whitening.predict(images.astype("float32"), verbose=0).reshape(-1, 24)
    np.testing.assert_array_equal(outputs[:, 12:], -outputs[:, :12])
    correlation = np.corrcoef(outputs[:, :12], rowvar=False)
    assert np.abs(correlation - np.eye(12)).max() < 0.05
    # Directions with variance in the images have a standard deviation of 1; the pixels' own is a quarter of that.
    assert np.percentile(outputs[:, :12].std(0), 75) == pytest.approx(1, abs=0.1)
    assert "whitening" not in {weight.path.split("/")[0] for weight in model.trainable_weights}


def test_without_images_the_first_layer_is_random():
    one, other = (models.build(SPEC, (16, 16, 1), 2).get_layer("whitening").get_weights()[0] for _ in range(2))
    assert (one != other).any()


@pytest.mark.parametrize(("layer", "channels"), [("group1_a_conv", 24), ("group2_a_conv", 30), ("group2_b_conv", 120)])
def test_convolutions_start_as_identity_maps(layer, channels):
    model = models.build(ModelSpec(architecture="whitened_cnn", width=30), (16, 16, 3), 2)
    convolution = model.get_layer(layer)
    inputs = np.random.default_rng(0).random((2, 5, 6, channels), dtype="float32")
    outputs = keras.ops.convert_to_numpy(convolution(inputs))
    copied = min(channels, convolution.filters)
    np.testing.assert_allclose(outputs[..., :copied], inputs[..., :copied], atol=1e-6)
    random = convolution.get_weights()[0][..., copied:]
    if random.size:
        assert random.std() == pytest.approx(np.sqrt(1 / 3 / (9 * channels)), rel=0.1)


def test_the_last_normalization_starts_with_a_scale_of_a_ninth():
    model = models.build(SPEC, (16, 16, 3), 2)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    scales = [layer.get_weights()[0].mean() for layer in norms]
    assert scales == pytest.approx([1] * 5 + [1 / 9])


def test_few_large_images_are_enough_for_whitening(monkeypatch):
    counts = []
    monkeypatch.setattr(np, "cov", lambda patches, rowvar: counts.append(len(patches)) or np.eye(12))
    models.build(SPEC, (256, 256, 3), 2, np.zeros((400, 256, 256, 3), np.uint8))
    assert counts == [50 * 255 * 255]


def test_size_of_the_recipes_network():
    assert models.build(ModelSpec(architecture="whitened_cnn", width=64), (32, 32, 3), 10).count_params() == 1_975_082


def test_images_that_are_too_small_are_refused():
    with pytest.raises(InputError, match="whitened_cnn takes images of at least 16 x 16"):
        models.build(SPEC, (32, 15, 3), 10)


@pytest.mark.backend
def test_an_integer_file_predicts_as_its_simulation(images):
    keras.utils.set_random_seed(0)
    model = models.build(SPEC, (32, 32, 3), 7, images)
    quantized = quantization.with_fake_quantization(model)
    quantization.set_ranges(quantized, model, images, logits=True)
    content = quantization.convert(quantized, "qat", logits=True)
    agreement = quantization.simulation_agreement(quantized, images, quantization.Runner(content)(images), logits=True)
    assert agreement.within_a_step >= 0.98
    assert agreement.same_class >= 0.97
    assert quantization.audit(content).kind == "full-integer"


@pytest.mark.slow
def test_the_file_opens_in_a_process_that_has_not_built_the_network(tmp_path):
    models.build(SPEC, (16, 16, 3), 2).save(tmp_path / "model.keras")
    code = "import sys, keras; keras.saving.load_model(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.keras")], check=True)
