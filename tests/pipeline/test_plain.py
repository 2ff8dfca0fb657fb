"""Results that go through JSON and come back as they were."""

import dataclasses
import json
import math
from typing import NamedTuple

import numpy as np
import pytest

from keras_vision.pipeline.plain import from_plain, to_plain


class Range(NamedTuple):
    value: float
    low: float


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    ranges: dict[str, Range]
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    pair: tuple[int, str]
    matrix: np.ndarray
    picture: bytes
    times: dict[int, dict[str, float]]
    classes: list[tuple[int, int]]
    nothing: Part | None = None


WHOLE = Whole(
    parts=(Part("a", {"accuracy": Range(0.1, math.inf)}), Part("b", {}, 3)),
    pair=(1, "x"),
    matrix=np.arange(6, dtype=np.int16).reshape(2, 3),
    picture=b"\x89PNG\0",
    times={1: {"int8": 0.25}},
    classes=[(1, 2)],
)


@dataclasses.dataclass(frozen=True)
class Either:
    result: Part | Whole


def test_one_of_several_dataclasses_is_told_by_its_fields():
    for result in (WHOLE, WHOLE.parts[1]):
        back = from_plain(Either, json.loads(json.dumps(to_plain(Either(result)))))
        assert type(back.result) is type(result)
    with pytest.raises(ValueError, match="not enough values"):
        from_plain(Either, {"result": {"other": 1}})


def test_a_result_comes_back_with_its_types():
    back = from_plain(Whole, json.loads(json.dumps(to_plain(WHOLE))))
    np.testing.assert_array_equal(back.matrix, WHOLE.matrix)
    assert back.matrix.dtype == np.int16
    same = dataclasses.replace(back, matrix=WHOLE.matrix)
    assert same == WHOLE
    assert type(back.parts[0].ranges["accuracy"]) is Range
    assert back.times.keys() == {1}


@pytest.mark.parametrize("damage", [{"parts": 3}, {"pair": [1]}, {"matrix": "AAAA"}, {"nothing": {"name": "c"}}])
def test_what_is_no_such_result_is_an_error(damage):
    with pytest.raises((ValueError, TypeError, LookupError, OSError)):
        from_plain(Whole, to_plain(WHOLE) | damage)
