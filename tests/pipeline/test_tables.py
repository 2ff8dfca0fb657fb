"""Tables for the terminal: columns that line up, whatever the script."""

import pytest

from keras_vision.evaluation import Interval
from keras_vision.pipeline.tables import counted, shown, text_table, width


@pytest.mark.parametrize(
    ("text", "columns"), [("", 0), ("cat", 3), ("\u72ac\u5c0f\u5c4b", 6), ("e\u0301cole", 5), ("\U0001f600", 2)]
)
def test_a_text_is_as_wide_as_a_terminal_shows_it(text, columns):
    assert width(text) == columns


def test_columns_line_up():
    assert text_table(("class", "images"), [("\u72ac", 1), ("e\u0301cole", 12)]) == (
        "class  images\n\u72ac     1     \ne\u0301cole  12    "
    )


def test_nouns_have_their_plural():
    assert [counted(1, "class"), counted(1200, "class"), counted(0, "pair")] == ["1 class", "1,200 classes", "0 pairs"]


def test_a_metric_is_shown_with_its_interval_and_without_a_negative_zero():
    assert shown(Interval(0.8123, 0.79, 0.834)) == "0.812  (0.790 to 0.834)"
    assert shown(Interval(-1e-16, -0.0002, 0.25)) == "0.000  (0.000 to 0.250)"
    assert shown(Interval(-0.2, float("nan"), float("nan"))) == "-0.200"
    assert shown(Interval(float("nan"), 0.0, 1.0)) == "none"
