import time

import numpy as np

from keras_vision import data


def test_every_image_of_a_read_takes_its_time():
    images = np.arange(24, dtype=np.uint8).reshape(4, 2, 3, 1)
    slow = data.SlowImages(images, 0.01)
    for index, count in ((slice(None), 4), ([2, 0], 2), (1, 1)):
        started = time.perf_counter()
        np.testing.assert_array_equal(slow[index], images[index])
        assert time.perf_counter() - started >= 0.01 * count
    assert (len(slow), slow.shape, slow.dtype, slow.ndim) == (4, images.shape, np.uint8, 4)


def test_batches_of_slow_images_are_those_of_the_array(lesions):
    split = data.Split(lesions.train.images[:8], lesions.train.labels[:8])
    slow = data.Split(data.SlowImages(split.images, 0.0), split.labels)
    for ours, expected in zip(data.Batches(slow, 7, 4)[1], data.Batches(split, 7, 4)[1], strict=True):
        np.testing.assert_array_equal(ours, expected)
