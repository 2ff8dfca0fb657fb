"""The table of random numbers: meanings that are read together share none, and the streams are pinned."""

import itertools

import numpy as np
import pytest

from keras_vision.data import draws
from keras_vision.data.draws import ImageColumns, Purpose, SharedColumns, VolumeColumns


def columns(table):
    """All columns of a table, one by one, with repetitions."""
    values = [value for name, value in vars(table).items() if name.isupper()]
    return [int(column) for value in values for column in np.r_[value]]


@pytest.mark.parametrize("table", [ImageColumns, VolumeColumns, SharedColumns])
def test_no_two_changes_share_a_column(table):
    found = columns(table)
    assert len(set(found)) == len(found) > 0
    assert set(found) <= set(range(draws.DRAWS))


def test_the_tables_have_every_column_that_they_should():
    assert sorted(columns(ImageColumns)) == [*range(14), *range(16, 26), *range(28, 32)]
    assert sorted(columns(VolumeColumns)) == list(range(16))
    assert sorted(columns(SharedColumns)) == [26, 27]


@pytest.mark.parametrize("table", [ImageColumns, VolumeColumns])
def test_mixup_and_albumentations_share_no_column_with_images_or_volumes(table):
    assert not set(columns(SharedColumns)) & set(columns(table))


def test_purposes_and_their_streams_are_distinct():
    # An enum accepts a second name for a number; `__members__` lists it, iteration does not.
    assert len(Purpose.__members__) == len(set(Purpose)) == 4
    streams = [draws.generator(5, purpose, epoch).random(8) for purpose in Purpose for epoch in range(4)]
    streams.append(draws.validation_generator(5).random(8))
    for one, other in itertools.combinations(streams, 2):
        assert not np.isin(one, other).any()


def test_a_row_depends_only_on_seed_epoch_and_index():
    many = draws.uniforms(3, 5, 1000)
    assert np.array_equal(draws.uniforms(3, 5, 8)[7], many[7])
    assert not np.array_equal(draws.uniforms(4, 5, 8)[7], many[7])
    assert not np.array_equal(draws.uniforms(3, 6, 8)[7], many[7])


def test_the_streams_are_pinned():
    """A run must be repeatable by the next version of this package."""
    assert draws.uniforms(0, 0, 2)[1, :2].tolist() == [0.9501286121836531, 0.26275972277240933]
    assert draws.uniforms(0, 0, 2)[1, 16:18].tolist() == [0.2766070377682909, 0.812344296173999]
    found = draws.uniforms(3, 5, 10)[2, 20:24].tolist()
    assert found == [0.0002521039580898332, 0.23013437743664877, 0.8887486664743858, 0.7782852811274092]
    assert draws.generator(3, Purpose.ORDER, 5).permutation(8).tolist() == [7, 3, 6, 1, 2, 4, 5, 0]
    assert draws.generator(3, Purpose.PARTNERS, 5).permutation(8).tolist() == [7, 6, 2, 0, 1, 5, 3, 4]
    assert draws.validation_generator(7).permutation(8).tolist() == [2, 7, 4, 6, 0, 3, 5, 1]


def test_the_first_block_does_not_depend_on_the_second():
    numbers = draws.uniforms(0, 0, 3000)
    assert numbers.shape == (3000, draws.DRAWS)
    assert np.array_equal(numbers[:, : draws.BLOCK], draws.generator(0, Purpose.FIRST_BLOCK, 0).random((3000, 16)))
    # 32 columns: the largest of 496 correlations, 5 standard errors.
    assert np.abs(np.corrcoef(numbers.T) - np.eye(draws.DRAWS)).max() < 5 / np.sqrt(3000)
