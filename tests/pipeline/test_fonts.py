"""Names in any script are drawn where a font has them; elsewhere they leave neither boxes nor warnings."""

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.figure import Figure

from keras_vision.pipeline import fonts, plots

DOG, CAT = "\u72ac", "\u732b"


def write_font(file, family, characters):
    """A font that draws each of the characters as a triangle."""
    pen = TTGlyphPen(None)
    for move, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (900, 0)), (pen.lineTo, (450, 900))):
        move(point)
    pen.closePath()
    names = [".notdef", *(f"character{number}" for number in range(len(characters)))]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, characters), names[1:], strict=True)))
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(file)


@pytest.fixture
def installed(monkeypatch):
    """Gives a function that installs fonts for a test; without a call, only those that come with matplotlib are."""
    manager = font_manager.fontManager
    own = [entry for entry in manager.ttflist if "matplotlib" in entry.fname]
    monkeypatch.setattr(manager, "ttflist", own)

    def forget():
        for cached in (fonts._families, fonts._characters):
            cached.cache_clear()

    def install(*files):
        for file in files:
            manager.addfont(file)
        forget()

    forget()
    yield install
    forget()


def axis_labels(figure):
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_a_name_is_drawn_in_the_font_that_has_its_characters(installed, tmp_path):
    write_font(tmp_path / "dog.ttf", "Dog Font", DOG)
    installed(tmp_path / "dog.ttf")
    drawn = plots.confusion(np.eye(2, dtype=int), [f"{DOG} beagle", "cat"])
    assert axis_labels(drawn) == [f"{DOG} beagle", "cat"]
    first, second = drawn.axes[0].get_yticklabels()
    assert first.get_fontfamily()[1:] == ["Dog Font"]
    assert second.get_fontfamily()[1:] == []
    plots.png(drawn)


def test_several_fonts_together_have_the_characters_of_a_name(installed, tmp_path):
    for family, characters in (("One", DOG), ("Two", CAT)):
        write_font(tmp_path / f"{family}.ttf", family, characters)
    installed(tmp_path / "One.ttf", tmp_path / "Two.ttf")
    assert fonts.class_labels([DOG + CAT, CAT, "\u5154"]) == [DOG + CAT, CAT, "class 2"]
    plots.png(plots.class_balance({"train": [1]}, [DOG + CAT]))


def test_a_name_that_no_font_has_is_the_number_of_its_class(installed):
    names = ["cat", f"{DOG} beagle", "two\nlines", "tab\t"]
    assert fonts.class_labels(names) == ["cat", "class 1", "class 2", "class 3"]
    drawn = plots.confusion(np.eye(4, dtype=int), names)
    assert axis_labels(drawn) == ["cat", "class 1", "class 2", "class 3"]
    plots.png(drawn)


def test_other_texts_lose_only_the_characters_that_no_font_has(installed):
    drawn = plots.gallery(np.zeros((1, 4, 4, 3), np.uint8), [f"true: {DOG} beagle\npredicted: cat"])
    assert drawn.axes[0].get_title() == "true: \ufffd beagle\npredicted: cat"
    drawn.axes[0].set_xlabel(CAT)  # Set by somebody who knows nothing of fonts.
    plots.png(drawn)


ANY_CHARACTER = st.characters() | st.sampled_from("\ud800\u202e\u200d\u0301\u05d0\u0645\U0001f600$\\_^{}\n\t")
NAMES = ["\udcff", "\u05e9\u05dc", "\u0645\u0631", "e\u0301\u0327", "\U0001f468\u200d\U0001f469", "\u0928\u092e\u094d"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(ANY_CHARACTER), min_size=1, max_size=6))
@example(NAMES)
@example(["\u01a2\u0359"])  # A letter of one font with a mark of another.
@example(["$", "$$", "\\", "$\\frac{"])
def test_any_text_can_be_drawn(names):
    figure = Figure(figsize=(2, 2))
    for name in [*map(plots.literal, names), *map(plots.literal, fonts.class_labels(names))]:
        figure.text(0.1, 0.5, name)
    plots.png(figure)


def test_names_in_many_scripts_are_drawn_by_every_plot_that_has_names():
    counts = {"train": [1] * len(NAMES)}
    images = np.zeros((len(NAMES), 2, 2, 3), np.uint8)
    plots.png(plots.confusion(np.eye(len(NAMES), dtype=int), NAMES))
    plots.png(plots.class_balance(counts, NAMES))
    plots.png(plots.gallery(images, NAMES))
    plots.png(plots.pairs(np.stack([images, images], axis=1), NAMES))
    epoch = {"loss": 1, "accuracy": 1, "val_loss": 1, "val_accuracy": 1}
    plots.png(plots.learning_curves({name: [epoch] for name in NAMES}))
