"""A student learns its teacher's predictions, and the teacher does not change."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_vision import training

pytestmark = pytest.mark.backend


def network(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4,))
    return keras.Model(
        inputs, layers.Dense(3, name="logits")(layers.Dense(8, activation="tanh", name="hidden")(inputs))
    )


def test_a_student_learns_its_teachers_predictions_whatever_the_labels():
    teacher, model = network(0), network(1)
    before = [weights.copy() for weights in teacher.get_weights()]
    inputs = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    labels = np.eye(3, dtype="float32")[np.zeros(256, int)]
    student = training.student_of(teacher, model)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.02), loss=loss, metrics=["accuracy"])
    student.fit(inputs, labels, batch_size=64, epochs=30, verbose=0)
    actual, expected = (keras.ops.softmax(one.predict(inputs, verbose=0)) for one in (model, teacher))
    distance = np.abs(keras.ops.convert_to_numpy(actual) - keras.ops.convert_to_numpy(expected))
    assert distance.mean() < 0.03
    for kept, now in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_every_step_starts_from_cleared_gradients():
    """Teacher and student have variables of the same names, which must not be confused."""
    teacher, model = network(0), network(1)
    inputs = np.ones((8, 4), "float32")
    student = training.student_of(teacher, model)
    student.compile(keras.optimizers.SGD(1e-3), loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    changes = []
    for _ in range(4):
        before = model.get_layer("logits").get_weights()[1].copy()
        student.train_on_batch(inputs, np.zeros((8, 3), "float32"))
        changes.append(np.linalg.norm(model.get_layer("logits").get_weights()[1] - before))
    # Gradients that add up would make the fourth step four times the first.
    assert max(changes) < 1.2 * min(changes)


def test_a_share_of_the_teacher_is_a_share_of_its_loss():
    teacher, model = network(0), network(1)
    inputs = np.random.default_rng(1).normal(size=(16, 4)).astype("float32")
    labels = np.eye(3, dtype="float32")[np.arange(16) % 3]
    losses = {}
    for share in (0.25, 1.0):
        student = training.student_of(teacher, model, share=share)
        student.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
        losses[share] = student.test_on_batch(inputs, labels)
    model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    alone = model.test_on_batch(inputs, labels)
    assert losses[0.25] == pytest.approx(0.25 * losses[1.0] + 0.75 * alone, rel=1e-5)
