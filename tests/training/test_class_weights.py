"""Class weights by hand and compared with scikit-learn's."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from keras_vision.training import class_weights

LABELS = np.repeat([0, 1, 2], [60, 30, 10])


def test_none_gives_no_weights():
    assert class_weights(LABELS, 3, "none") is None
    assert class_weights(LABELS, 3, "0") is None


def test_balanced_weights_are_scikit_learns():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert list(class_weights(LABELS, 3, "balanced").values()) == pytest.approx(expected)


def test_a_power_by_hand():
    # Balanced weights 100 / (3 * n): 5/9, 10/9, 10/3. Square roots .745, 1.054, 1.826; their mean over the images is
    # .6 * .745 + .3 * 1.054 + .1 * 1.826 = .946, and division by it gives .788, 1.114, 1.930.
    weights = class_weights(LABELS, 3, "0.5")
    assert list(weights.values()) == pytest.approx([0.788, 1.114, 1.930], abs=1e-3)


@pytest.mark.parametrize("setting", ["balanced", "0.3"])
def test_the_mean_weight_of_an_image_is_one(setting):
    weights = class_weights(LABELS, 3, setting)
    assert np.mean([weights[label] for label in LABELS]) == pytest.approx(1)
