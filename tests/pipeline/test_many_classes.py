"""What a run prints and writes of its classes where they are many."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest

from keras_vision.pipeline import predictions, track


def splits(train, val):
    """What is announced of splits with so many images of each class."""
    return SimpleNamespace(
        source=SimpleNamespace(name="dogs", description="Photos of dogs"),
        image_shape=(8, 8, 3),
        class_names=tuple(f"name {label}" for label in range(len(train))),
        num_classes=len(train),
        named=lambda: {"train": None, "val": None},
        counts=lambda: {"train": train, "val": val},
        several_labels=False,
        report=None,
    )


def test_few_classes_are_announced_one_by_one(capsys):
    track.announce(splits([3] * 40, [1] * 40))
    assert len(capsys.readouterr().out.splitlines()) == 42


def test_many_classes_are_announced_in_a_line(capsys):
    track.announce(splits([1300, 50, *[700] * 998], [0, *[10] * 999]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["1,000 classes. Images of a class: train 50 to 1,300; val 0 to 10 (1 class without images)."]


@pytest.mark.parametrize(("classes", "columns"), [(3, ["p_0", "p_1", "p_2"]), (101, ["p_label", "p_predicted"])])
def test_predictions_have_every_probability_of_few_classes_and_two_of_many(classes, columns):
    probabilities = np.zeros((2, classes))
    probabilities[:, 2], probabilities[1, 0] = 0.75, 0.25
    images = np.arange(2 * 4, dtype=np.uint8).reshape(2, 2, 2, 1)
    labels = np.array([2, 0])
    report = SimpleNamespace(images=images, labels=labels, probabilities=probabilities, names=None, fold=None)
    report.decisions = lambda row: ([labels[row]], [int(probabilities[row].argmax())])
    file = io.StringIO()
    predictions.write(report, file)
    head, *rows = csv.reader(io.StringIO(file.getvalue()))
    assert head == ["image_sha256", "label", "predicted", *columns]
    assert [row[1:3] for row in rows] == [["2", "2"], ["0", "2"]]
    assert rows[0][0] != rows[1][0]
    assert [row[3:] for row in rows] == (
        [["0", "0", "0.75"], ["0.25", "0", "0.75"]] if classes == 3 else [["0.75", "0.75"], ["0.25", "0.75"]]
    )
