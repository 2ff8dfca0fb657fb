"""The comparison that the package exists for: what a trained network loses in each file."""

import keras
import numpy as np
import pytest

from keras_vision import evaluation, quantization

pytestmark = [pytest.mark.backend, pytest.mark.slow]


@pytest.fixture(scope="module")
def trained(lesions, train_for_integers):
    """A trained network, its files, and their scores on the test split."""
    model, tuned, representative = train_for_integers(0)
    files = {
        scheme: quantization.convert(tuned if scheme == "qat" else model, scheme, representative)
        for scheme in quantization.SCHEMES
    }
    expected = evaluation.softmax(model.predict(lesions.test.images, verbose=0))
    scores = {scheme: quantization.Runner(content)(lesions.test.images) for scheme, content in files.items()}
    agreements = {
        scheme: evaluation.agreement(lesions.test.labels, expected, probabilities, resamples=10)
        for scheme, probabilities in scores.items()
    }
    return model, tuned, files, expected, scores, agreements


def test_the_float_network_is_better_than_its_largest_class(trained):
    agreements = trained[-1]
    # The largest class has .66 of the images.
    assert agreements["float32"].judgement.metrics["accuracy"][0] > 0.75
    assert agreements["float32"].changed == 0


@pytest.mark.parametrize(
    ("scheme", "points", "distance"), [("dynamic", 1.0, 0.002), ("int8", 2.0, 0.006), ("qat", 2.0, 0.0025)]
)
def test_no_scheme_loses_more_than_its_share(trained, scheme, points, distance):
    """On 400 images one image is a quarter of a point, so probabilities are a finer measure than classes."""
    _, _, _, expected, scores, agreements = trained
    assert agreements[scheme].accuracy_drop <= points
    assert np.mean(np.abs(scores[scheme] - expected)) <= distance


@pytest.mark.parametrize("scheme", quantization.INTEGER_SCHEMES)
def test_a_trained_networks_file_and_its_simulation_agree(trained, lesions, scheme):
    model, tuned, _, _, scores, _ = trained
    if scheme == "int8":
        representative = quantization.representative(lesions.train.images, lesions.train.labels, 128)
        tuned = quantization.with_fake_quantization(model)
        quantization.set_ranges(tuned, model, representative)
    agreement = quantization.simulation_agreement(tuned, lesions.test.images, scores[scheme])
    assert agreement.same_class >= 0.995
    assert agreement.within_a_step >= 0.99


def test_normalizations_are_folded_into_the_convolutions(trained):
    """Otherwise it would be a MUL and an ADD, or a depthwise convolution."""
    files = trained[2]
    for scheme in quantization.INTEGER_SCHEMES:
        names = [item.name for item in quantization.audit(files[scheme]).operators]
        assert names.count("CONV_2D") == 4
        assert {"MUL", "ADD", "DEPTHWISE_CONV_2D"}.isdisjoint(names)


def test_wrongly_folded_statistics_would_be_noticed(trained, lesions):
    """The same comparison fails for a network with other statistics than its file."""
    _, tuned, _, _, scores, _ = trained
    broken = keras.models.clone_model(tuned)
    broken.set_weights(tuned.get_weights())
    norm = broken.get_layer("block2_norm")
    norm.moving_mean.assign(norm.moving_mean * 0)
    agreement = quantization.simulation_agreement(broken, lesions.test.images, scores["qat"])
    assert agreement.same_class < 0.995
    assert agreement.within_a_step < 0.99


def test_fine_tuning_does_not_change_the_float_network(trained):
    model, tuned = trained[:2]
    assert all(layer.trainable for layer in model.layers)
    kernel = {one.name: one.get_layer("block1_conv").get_weights()[0] for one in (model, tuned)}
    before, after = kernel.values()
    assert 0 < np.abs(after - before).max() < 0.05
