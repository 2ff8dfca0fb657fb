import numpy as np
import pytest

from keras_vision.pipeline import plots


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
