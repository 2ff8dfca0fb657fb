import pytest

from keras_vision.evaluation import figures


@pytest.mark.parametrize(
    ("train", "scale"), [([455, 646], "linear"), ([455, 15], "log"), ([455, 0], "linear"), ([0, 0], "linear")]
)
def test_bars_are_on_a_logarithmic_axis_where_short_ones_would_not_be_seen(train, scale):
    drawn = figures.class_balance({"train": train, "val": [0, 0]}, ["roses", "tulips"])
    assert drawn.axes[0].get_xscale() == scale
