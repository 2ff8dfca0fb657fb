"""Tables of metrics: rows of text, for the terminal and for pages alike."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from keras_vision.evaluation import Interval, Judgement

Row = Sequence[Any]
Table = tuple[Row, list[Row]]

KNOWN_WORDS = {
    "auc": "AUC",
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
}


def words(name: str) -> str:
    """A metric's name as a person writes it."""
    return KNOWN_WORDS[name] if name in KNOWN_WORDS else name.replace("_", " ")


def shown(values: Interval) -> str:
    """A metric and its interval, such as `0.812  (0.790 to 0.834)`; `none` where it is not defined."""
    value, low, high = (round(part, 3) + 0.0 for part in values)  # A kappa of chance can be -1e-16; -0.000 says less.
    if not math.isfinite(value):
        return "none"
    return f"{value:.3f}  ({low:.3f} to {high:.3f})" if math.isfinite(low) else f"{value:.3f}"


def intervals(judgement: Judgement) -> str:
    """How the intervals of a judgement were made, such as `95 % intervals, resampled by group, 12 groups`."""
    if judgement.groups is None:
        return "95 % intervals"
    return f"95 % intervals, resampled by group, {counted(judgement.groups, 'group')}"


def duration(seconds: float) -> str:
    """A time as a person says it: `42 seconds` or `7.5 minutes`."""
    if seconds < 1:
        return "under a second"
    return counted(round(seconds), "second") if seconds < 100 else f"{seconds / 60:.1f} minutes"


def counted(count: int, noun: str) -> str:
    """A count and its noun, such as `1 image` or `1,198 images`."""
    if count == 1:
        return f"{count:,} {noun}"
    return f"{count:,} {noun}es" if noun.endswith("s") else f"{count:,} {noun}s"


def count_range(counts: Sequence[int]) -> str:
    """The numbers of images of classes as one says them: `0 to 1,300 (2 classes without images)`."""
    low, high, none = min(counts), max(counts), sum(count == 0 for count in counts)
    without = f" ({counted(none, 'class')} without images)" if none else ""
    return (f"{low:,} to {high:,}" if low < high else f"{high:,}") + without


def width(text: str) -> int:
    """Columns that a text takes in a terminal: a Chinese character takes two, a combining one none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def padded(text: str, columns: int) -> str:
    """A text with spaces after it that fill so many columns of a terminal."""
    return text + " " * (columns - width(text))


def from_json(values: dict[str, float | None] | None) -> Interval:
    """A metric as a report's JSON has it; NaN for what is None or missing."""
    numbers = [(values or {}).get(name) for name in Interval._fields]
    return Interval(*(math.nan if number is None else number for number in numbers))


def transposed(head: Row, rows: Sequence[Row]) -> Table:
    """The same table with rows and columns exchanged: many metrics and few runs are easier to read like this."""
    columns: list[Row] = list(zip(head, *rows, strict=True))
    return columns[0], columns[1:]


def text_table(head: Row, rows: Iterable[Row]) -> str:
    """A table for the terminal."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(padded, row, widths)) for row in cells)
