"""torch's state around a training."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import data, training
from keras_vision.data.splits import Split
from keras_vision.recipe import TrainingSpec
from keras_vision.training import torch_state

pytestmark = [
    pytest.mark.backend,
    pytest.mark.skipif(keras.backend.backend() != "torch", reason="the state is torch's"),
]


def below_the_smallest_normal_number():
    import torch

    return float(torch.tensor([1e-30]) * 1e-10)


@pytest.fixture
def denormals_kept():
    """torch as it starts."""
    import torch

    torch.set_flush_denormal(False)
    yield
    torch_state.flush_denormals()


def test_a_training_computes_without_denormal_numbers(denormals_kept):
    assert below_the_smallest_normal_number() > 0
    split = Split(np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2)
    batches = data.Batches(split, 2, 4)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inputs)))
    training.fit(model, batches, batches, TrainingSpec(epochs=1))
    assert below_the_smallest_normal_number() == 0
