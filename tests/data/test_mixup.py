import numpy as np
import pytest
from scipy import stats

from keras_vision.data import Batches, Split, draws, mixup
from keras_vision.data.augmentation import augment
from keras_vision.data.draws import uniforms
from keras_vision.recipe import AugmentationSpec

FULL = AugmentationSpec(mixup=1.0, random_crop=3, horizontal_flip=True)


def split(count=90, shape=(12, 12, 3)):
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    return Split(images, np.arange(count) % 5)


def epoch_of(batches):
    """Images and labels of an epoch by their index in the split."""
    images = np.empty(batches.split.images.shape, np.float32)
    labels = np.empty((len(batches.split), 5), np.float32)
    for number in range(len(batches)):
        rows = batches._order[number * batches.batch_size : (number + 1) * batches.batch_size]
        images[rows], labels[rows] = batches[number]
    return images, labels


def test_a_mixture_by_hand():
    values = np.array([[100, 0], [1, 0], [0, 200], [0, 1]], np.float32)
    assert mixup.mix(values, np.array([0.25, 1], np.float32)).tolist() == [[25, 150], [1, 0]]


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_have_the_beta_distribution(alpha):
    shares = mixup.shares(alpha, uniforms(0, 0, 4000))
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_the_smallest_alpha_leaves_images_unmixed():
    shares = mixup.shares(1e-6, uniforms(0, 0, 1000))
    assert np.isin(shares, [0, 1]).all()


@pytest.mark.parametrize("shape", [(12, 12, 3), (6, 7, 8, 1)], ids=["images", "volumes"])
def test_an_image_and_its_label_are_mixed_with_the_same_partners_in_the_same_shares(shape):
    data = split(shape=shape)
    spec = AugmentationSpec(mixup=1.0, horizontal_flip=True)
    batches = Batches(data, 5, 16, augmentation=spec, shuffle=True, seed=3)
    images, labels = epoch_of(batches)
    augmented = augment(data.images, spec, uniforms(3, 0, 90))
    partners = draws.generator(3, draws.Purpose.PARTNERS, 0).permutation(90)
    shares = mixup.shares(1.0, uniforms(3, 0, 90))
    along = shares.reshape(-1, *[1] * len(shape))
    assert np.allclose(images, along * augmented + (1 - along) * augmented[partners], atol=1e-3)
    one_hot = np.eye(5)[data.labels]
    assert np.allclose(labels, shares[:, np.newaxis] * one_hot + (1 - shares[:, np.newaxis]) * one_hot[partners])
    assert (partners != np.arange(90)).sum() > 80


def test_mixtures_are_float32_in_range_and_labels_sum_to_1():
    images, labels = epoch_of(Batches(split(), 5, 16, augmentation=FULL))
    assert images.dtype == labels.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 255
    assert np.allclose(labels.sum(1), 1, atol=1e-6)
    assert ((labels > 0).sum(1) == 2).mean() > 0.5


def test_batch_size_and_order_change_no_mixture():
    results = []
    for batch_size, shuffle in [(32, False), (7, True), (90, True), (1, False)]:
        batches = Batches(split(), 5, batch_size, augmentation=FULL, shuffle=shuffle, seed=9)
        batches.start_epoch(4)
        results.append(epoch_of(batches))
    for images, labels in results[1:]:
        np.testing.assert_array_equal(images, results[0][0])
        np.testing.assert_array_equal(labels, results[0][1])


def test_epochs_and_seeds_have_their_own_partners_and_shares():
    results = []
    for seed, epoch in [(0, 0), (0, 1), (1, 0)]:
        batches = Batches(split(), 5, 90, augmentation=AugmentationSpec(mixup=1.0), seed=seed)
        batches.start_epoch(epoch)
        results.append(batches[0][1])
    for other in results[1:]:
        assert not np.array_equal(results[0].max(1), other.max(1))
        assert not np.array_equal(results[0] > 0, other > 0)


def test_the_split_is_not_modified():
    data = split()
    before = data.images.copy(), data.labels.copy()
    epoch_of(Batches(data, 5, 16, augmentation=FULL))
    assert np.array_equal(data.images, before[0])
    assert np.array_equal(data.labels, before[1])


def test_keras_weights_a_mixture_by_the_class_with_the_larger_share():
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    batches = Batches(split(), 5, 90, augmentation=FULL)
    weights = {label: 1.0 + label for label in range(5)}
    _, labels, sample_weights = next(iter(PyDatasetAdapter(batches, class_weight=weights).get_numpy_iterator()))
    assert np.array_equal(sample_weights, 1.0 + np.asarray(labels).argmax(1))
