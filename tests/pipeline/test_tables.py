"""Tables for the terminal: columns that line up, whatever the script."""

import pytest

from keras_vision.pipeline.tables import counted, text_table, width


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
