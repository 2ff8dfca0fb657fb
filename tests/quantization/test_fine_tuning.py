"""Quantization-aware training brings the predictions nearer to the float network's."""

import numpy as np
import pytest

from keras_vision import evaluation, quantization

pytestmark = pytest.mark.slow


def test_training_for_integers_brings_predictions_nearer_to_the_float_networks(lesions, train_for_integers):
    """Before the scores are rounded, which costs every file the same; three networks, as one may be near by chance."""
    images = lesions.test.images
    distances = []
    for seed in range(3):
        model, tuned, representative = train_for_integers(seed, epochs=4)
        untrained = quantization.with_fake_quantization(model, dropout=False)
        quantization.set_ranges(untrained, model, representative)
        expected, *found = (
            evaluation.softmax(network.predict(images, verbose=0))
            for network in (
                model,
                quantization.without_last_rounding(untrained),
                quantization.without_last_rounding(tuned),
            )
        )
        distances.append([np.mean(np.abs(scores - expected)) for scores in found])
    before, after = np.mean(distances, axis=0)
    assert after < 0.8 * before
