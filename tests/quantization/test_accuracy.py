"""The comparison that the package exists for: what a trained network loses on its way into each file."""

import keras
import numpy as np
import pytest

from keras_vision import evaluation, quantization

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def trained(lesions, train_for_integers):
    """A trained network, the splits, and what each file says of the test split."""
    model, tuned, representative = train_for_integers(0)
    files = {
        scheme: quantization.convert(tuned if scheme == "qat" else model, scheme, representative)
        for scheme in quantization.SCHEMES
    }
    expected = evaluation.softmax(model.predict(lesions.test.images, verbose=0))
    scores = {scheme: quantization.Runner(content)(lesions.test.images) for scheme, content in files.items()}
    found = {
        scheme: evaluation.agreement(lesions.test.labels, expected, answers, resamples=10)
        for scheme, answers in scores.items()
    }
    return model, tuned, files, expected, scores, found


def test_the_float_network_has_learnt_something(trained):
    found = trained[-1]
    # The largest class alone would give .66 of the images.
    assert found["float32"].judgement.metrics["accuracy"][0] > 0.75
    assert found["float32"].changed == 0


@pytest.mark.parametrize(
    ("scheme", "points", "distance"), [("dynamic", 1.0, 0.002), ("int8", 2.0, 0.006), ("qat", 2.0, 0.0025)]
)
def test_no_scheme_loses_more_than_its_share(trained, scheme, points, distance):
    """On 400 images a quarter of a point is one image, so the probabilities tell more than the classes do."""
    _, _, _, expected, scores, found = trained
    assert found[scheme].accuracy_drop <= points
    assert np.mean(np.abs(scores[scheme] - expected)) <= distance


@pytest.mark.parametrize("scheme", quantization.INTEGER_SCHEMES)
def test_a_trained_networks_file_and_its_simulation_agree(trained, lesions, scheme):
    model, tuned, _, _, scores, _ = trained
    if scheme == "int8":
        representative = quantization.representative(lesions.train.images, lesions.train.labels, 128)
        tuned = quantization.with_fake_quantization(model)
        quantization.set_ranges(tuned, model, representative)
    found = quantization.simulation_agreement(tuned, lesions.test.images, scores[scheme])
    assert found.same_class >= 0.995
    assert found.within_a_step >= 0.99


def test_normalizations_are_folded_into_the_convolutions(trained):
    """One left outside would be a MUL and an ADD, or a depthwise convolution of its own."""
    files = trained[2]
    for scheme in quantization.INTEGER_SCHEMES:
        names = [item.name for item in quantization.audit(files[scheme]).operators]
        assert names.count("CONV_2D") == 4
        assert {"MUL", "ADD", "DEPTHWISE_CONV_2D"}.isdisjoint(names)


def test_a_file_with_statistics_that_were_not_folded_right_would_be_noticed(trained, lesions):
    """The same comparison fails for a network whose normalization is left out of its file."""
    _, tuned, _, _, scores, _ = trained
    broken = keras.models.clone_model(tuned)
    broken.set_weights(tuned.get_weights())
    norm = broken.get_layer("block2_norm")
    norm.moving_mean.assign(norm.moving_mean * 0)
    found = quantization.simulation_agreement(broken, lesions.test.images, scores["qat"])
    assert found.same_class < 0.995
    assert found.within_a_step < 0.99


def test_fine_tuning_leaves_the_float_network_alone(trained):
    model, tuned = trained[:2]
    assert all(layer.trainable for layer in model.layers)
    kernel = {one.name: one.get_layer("block1_conv").get_weights()[0] for one in (model, tuned)}
    before, after = kernel.values()
    assert 0 < np.abs(after - before).max() < 0.05
