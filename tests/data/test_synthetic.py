import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from keras_vision import data
from keras_vision.data import synthetic
from keras_vision.recipe import DataSpec


def test_lesions_are_as_imbalanced_as_dermamnist(lesions):
    counts = np.array(lesions.counts()["train"])
    assert counts.sum() == 1400
    assert counts.min() >= 2
    assert np.argsort(counts).tolist() == np.argsort(synthetic.LESION_FREQUENCIES).tolist()
    assert 0.6 < counts.max() / counts.sum() < 0.72


@pytest.mark.slow
def test_the_seed_decides_every_image(lesions):
    again, other = synthetic.lesions(seed=0), synthetic.lesions(seed=1)
    assert np.array_equal(lesions.train.images, again.train.images)
    assert not np.array_equal(lesions.train.images, other.train.images)


@pytest.mark.parametrize("size", [8, 64, 224])
@pytest.mark.slow
def test_any_size_shows_the_same_images(lesions, size):
    splits = data.load_splits(DataSpec(data="synthetic", size=size))
    assert splits.image_shape == (size, size, 3)
    assert np.array_equal(splits.test.labels, lesions.test.labels)
    brightness = splits.test.images.mean((1, 2, 3)), lesions.test.images.mean((1, 2, 3))
    assert np.abs(brightness[0] - brightness[1]).max() < 3


def test_lesions_are_learnable_but_not_trivial(lesions):
    """A linear model on coarse colours does better than guessing and far from perfectly."""

    def coarse(split):
        return split.images.reshape(-1, 4, 7, 4, 7, 3).mean((2, 4)).reshape(len(split), -1) / 255

    model = LogisticRegression(C=10, max_iter=300, class_weight="balanced")
    model.fit(coarse(lesions.train), lesions.train.labels)
    score = balanced_accuracy_score(lesions.test.labels, model.predict(coarse(lesions.test)))
    assert 1.5 / 7 < score < 0.9


def test_volumes_with_three_kinds_of_break():
    splits = data.load_splits(DataSpec(data="synthetic3d"))
    assert splits.image_shape == (28, 28, 28, 1)
    assert splits.class_names == ("buckle", "nondisplaced", "displaced")
    assert splits.counts()["train"] == [100, 100, 100]
    assert splits.train.images.std() > 20


def test_its_source_states_that_it_is_synthetic(lesions):
    assert lesions.source.name == "synthetic"
    assert "not medical images" in lesions.source.description
