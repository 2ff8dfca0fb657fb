"""Fonts for names in any script: the one that comes with matplotlib has no Chinese, Japanese, Korean or Thai."""

import contextlib
import functools
import logging
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib import font_manager, ft2font, rcParams
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
# Before it used libraqm, matplotlib drew Arabic and Hebrew from left to right.
RIGHT_TO_LEFT = hasattr(ft2font, "__libraqm_version__")


def drawable(text: str) -> bool:
    """Whether installed fonts have every character of a text."""
    return not _lookup(text)[1]


def visible(text: str) -> str:
    """The text with a replacement character for each character that no installed font has."""
    unknown = _lookup(text)[1]
    return "".join(UNKNOWN if character in unknown else character for character in text)


def class_labels(class_names: Sequence[str]) -> list[str]:
    """Class names as plots show them: `class 3`, counted from 0, for one that no installed fonts can draw."""
    return [name if drawable(name) and "\n" not in name else f"class {k}" for k, name in enumerate(class_names)]


def fit(figure: Figure) -> Figure:
    """The same figure, with fonts that have its characters: matplotlib warns of others and draws boxes."""
    for text in figure.findobj(Text):
        families, unknown = _lookup(text.get_text())
        if unknown:
            text.set_text(visible(text.get_text()))
        if families:
            text.set_fontfamily([*text.get_fontfamily(), *families])
    return figure


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without matplotlib's remarks in the terminal on weights that a font does not have."""
    log = logging.getLogger("matplotlib.font_manager")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _lookup(text):
    """Families beyond the default that the text needs, and the set of characters that no font has."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return (), frozenset()
    missing = {character for character in text if character != "\n" and ord(character) not in _characters(None)}
    families, unknown = _families(frozenset(missing)) if missing else ((), frozenset())
    if not RIGHT_TO_LEFT:
        unknown |= {character for character in text if unicodedata.bidirectional(character) in ("R", "AL")}
    # A letter and its marks come from one font: a mark that only another font has takes the letter from it.
    others = {character for character in text if not character.isascii()}
    marks = {character for character in others if unicodedata.category(character)[0] in "MC"}
    for more in (frozenset(), marks, others):
        shown = "".join(UNKNOWN if character in unknown | more else character for character in text)
        if _is_complete(shown, families):
            break
    return families, unknown | more


def _is_complete(text, families):
    """Whether matplotlib lays a text out without a remark on a missing glyph."""
    names = FontProperties(family=[*rcParams["font.family"], *families])
    with quiet(), warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        for line in text.split("\n"):
            RendererAgg(1, 1, 72).get_text_width_height_descent(line, names, ismath=False)
    return not remarks


@functools.cache
def _families(missing):
    """Font families that have the missing characters, and what no family has."""
    chosen = []
    # Last Resort draws a box with a number for every character there is.
    names = {entry.name for entry in font_manager.fontManager.ttflist}
    names = sorted(name for name in names if not name.lower().replace(" ", "").startswith((".last", "last")))
    while missing and names:
        has = {name: {character for character in missing if ord(character) in _characters(name)} for name in names}
        best = max(names, key=lambda name: (len(has[name]), "Sans" in name))
        if not has[best]:
            break
        chosen.append(best)
        missing -= has[best]
    return tuple(chosen), missing


@functools.cache
def _characters(family: str | None) -> frozenset[int]:
    """The code points that a family has; None is the default family."""
    manager: Any = font_manager
    try:
        with quiet():
            file = manager.findfont(manager.FontProperties(family=family), fallback_to_default=family is None)
        return frozenset(manager.get_font(file).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()  # A font that is damaged, or was removed since matplotlib listed it.
