"""A metric with its 95 % interval."""

import math
from typing import NamedTuple


class Interval(NamedTuple):
    """A metric and its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """`{"value": ..., "low": ..., "high": ...}`; None replaces NaN and infinity, which JSON does not have."""
        return {name: part if math.isfinite(part) else None for name, part in self._asdict().items()}
