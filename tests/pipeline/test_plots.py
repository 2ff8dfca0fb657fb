from types import SimpleNamespace

import numpy as np
import pytest

from keras_vision import data
from keras_vision.pipeline import plots
from keras_vision.recipe import AugmentationSpec


@pytest.mark.parametrize(
    ("train", "scale"), [([455, 646], "linear"), ([455, 15], "log"), ([455, 0], "linear"), ([0, 0], "linear")]
)
def test_bars_are_on_a_logarithmic_axis_where_short_ones_would_not_be_seen(train, scale):
    drawn = plots.class_balance({"train": train, "val": [0, 0]}, ["roses", "tulips"])
    assert drawn.axes[0].get_xscale() == scale


def test_dollar_signs_in_names_are_no_formulas():
    names = ["price $10_$20", "$$", "a$b$c"]
    gallery = plots.gallery(np.zeros((3, 4, 4, 3), np.uint8), names)
    for drawn in (plots.confusion(np.eye(3, dtype=int), names), plots.class_balance({"train": [1, 1, 1]}, names)):
        plots.png(drawn)
    plots.png(gallery)
    assert [axes.get_title() for axes in gallery.axes[:3]] == [name.replace("$", r"\$") for name in names]
    plots.png(
        plots.learning_curves({name: [{"loss": 1, "accuracy": 1, "val_loss": 1, "val_accuracy": 1}] for name in names})
    )


@pytest.mark.parametrize(("count", "legends"), [(1, 0), (2, 0), (3, 1)])
def test_the_legend_of_many_curves_is_beside_them(count, legends):
    epochs = [{"loss": 2.0, "accuracy": 0.5, "val_loss": 2.0, "val_accuracy": 0.4}] * 3
    drawn = plots.learning_curves({f"run {number}": epochs for number in range(count)})
    plots.png(drawn)
    assert len(drawn.legends) == legends
    assert (drawn.axes[0].get_legend() is None) == bool(legends)


def test_the_last_epochs_are_drawn_over_the_hyperparameter():
    runs = {
        width: [{"loss": 9, "accuracy": 0, "val_loss": 9, "val_accuracy": 0}, dict(zip(names, values, strict=True))]
        for width, values in {1: (4, 0.1, 5, 0.2), 16: (1, 0.8, 2, 0.7)}.items()
        for names in [("loss", "accuracy", "val_loss", "val_accuracy")]
    }
    drawn = plots.last_epochs(runs, "width")
    plots.png(drawn)
    lines = {line.get_label(): line.get_xydata().tolist() for line in drawn.axes[0].lines}
    assert lines == {"training": [[1, 4], [16, 1]], "validation": [[1, 5], [16, 2]]}
    assert [label.get_text() for label in drawn.axes[1].get_xticklabels()] == ["1", "16"]


def test_augmentations_are_rows_below_the_unchanged_images(lesions):
    split = data.Split(lesions.train.images[:3], lesions.train.labels[:3])
    changes = {"flip": AugmentationSpec(horizontal_flip=True), "mixup": AugmentationSpec(mixup=1.0)}
    drawn = plots.augmentations(split, 7, changes)
    plots.png(drawn)
    shown = [axes.images[0].get_array() for axes in drawn.axes]
    assert len(shown) == 9
    np.testing.assert_array_equal(shown[:3], split.images)
    for image, flipped in zip(split.images, shown[3:6], strict=True):
        assert np.array_equal(flipped, image) or np.array_equal(flipped, image[:, ::-1])
    assert [drawn.axes[row].get_ylabel() for row in (0, 3, 6)] == ["unchanged", "flip", "mixup"]


def test_tensor_errors_are_in_the_order_of_the_file():
    errors = (SimpleNamespace(tensor="logits", relative_error=0.2), SimpleNamespace(tensor="conv", relative_error=0.1))
    operators = [SimpleNamespace(output=name) for name in ("conv", "reshaped", "logits")]
    file = SimpleNamespace(tensor_errors=errors, audit=SimpleNamespace(operators=operators))
    drawn = plots.tensor_errors({"int8": file})
    plots.png(drawn)
    assert drawn.axes[0].lines[0].get_ydata().tolist() == [0.1, 0.2]
    assert [label.get_text() for label in drawn.axes[0].get_xticklabels()] == ["conv", "logits"]


def numbers_in(drawn):
    return [text.get_text() for text in drawn.axes[0].texts]


@pytest.mark.parametrize(("classes", "numbers"), [(2, 4), (10, 100), (11, 11), (30, 30), (31, 0), (40, 0), (300, 0)])
def test_a_confusion_matrix_has_numbers_where_they_can_be_read(classes, numbers):
    drawn = plots.confusion(7 * np.eye(classes, dtype=int), [str(label) for label in range(classes)])
    assert len(numbers_in(drawn)) == numbers
    assert set(numbers_in(drawn)) <= {"0", "7"}


def test_numbers_too_long_for_their_cells_are_left_out():
    names = [str(label) for label in range(30)]
    assert numbers_in(plots.confusion(np.full((30, 30), 999), names))
    assert not numbers_in(plots.confusion(np.full((30, 30), 99_999), names))


@pytest.mark.parametrize("classes", [41, 1000])
def test_the_plots_of_many_classes_are_as_large_as_those_of_forty(classes):
    counts, names = {"train": list(range(classes)), "val": [2] * classes}, [f"class {k}" for k in range(classes)]
    matrix = np.random.default_rng(0).integers(0, 99, (classes, classes))
    for draw, content in ((plots.confusion, matrix), (plots.class_balance, counts)):
        forty = {split: part[:40] for split, part in content.items()} if content is counts else content[:40, :40]
        many, few = draw(content, names), draw(forty, names[:40])
        assert (many.get_size_inches() <= few.get_size_inches()).all()
        assert len(many.findobj()) <= 1.5 * len(few.findobj())
        assert many.get_size_inches()[0] <= plots.PAGE_WIDTH


def test_of_many_classes_those_that_are_confused_most_are_drawn():
    matrix = 10 * np.eye(60, dtype=int)
    matrix[50, 7], matrix[58, 3] = 9, 2
    drawn = plots.confusion(matrix, [f"name {label}" for label in range(60)])
    shown = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert len(shown) == 40
    assert {"name 50", "name 7", "name 58", "name 3"} <= set(shown)
    place = shown.index("name 50"), shown.index("name 7")
    assert drawn.axes[0].images[0].get_array()[place] == pytest.approx(9 / 19)
    assert drawn.axes[0].get_title() == "the 40 of 60 classes that are confused most"


def test_the_histogram_of_many_classes_counts_each_of_them():
    counts = {"train": [0, 0, 1, *[5] * 20, *[900] * 27], "val": [3] * 50}
    drawn = plots.class_balance(counts, [str(label) for label in range(50)])
    plots.png(drawn)
    assert [int(axes.patches[0].get_data().values.sum()) for axes in drawn.axes] == [48, 50]  # Two have none.
    assert [axes.get_title(loc="left") for axes in drawn.axes] == [
        "train, images of a class: 0 to 900 (2 classes without images)",
        "val, images of a class: 3",
    ]
    even = plots.class_balance({"train": [0, 1, *[4] * 48]}, [str(label) for label in range(50)])
    assert even.axes[0].patches[0].get_data().values.sum() == 50


def test_long_names_that_begin_alike_stay_apart_beside_an_axis():
    names = [f"Tomato___Tomato_Yellow_Leaf_{end}" for end in ("Curl_Virus", "Mould")]
    short = plots.axis_names([*names, "Tomato", "An other name that is too long"])
    assert short == [
        "Tomato___T\u2026af_Curl_Virus",
        "Tomato___T\u2026ow_Leaf_Mould",
        "Tomato",
        "An other name that is t\u2026",
    ]


@pytest.mark.parametrize("name", ["a", "a name of several words"])
@pytest.mark.parametrize("classes", [2, 10, 40])
def test_everything_beside_a_confusion_matrix_is_inside_the_plot(classes, name):
    drawn = plots.confusion(np.eye(classes, dtype=int), [f"{name} {label}" for label in range(classes)])
    plots.png(drawn)
    for axes in drawn.axes:
        box = axes.get_tightbbox().transformed(drawn.transFigure.inverted())
        assert min(box.min) >= -0.01  # A few pixels of it are white.
        assert max(box.max) <= 1.01
