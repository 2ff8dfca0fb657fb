"""Results as JSON and back: dataclasses, tuples, arrays and bytes, rebuilt from their declared types alone."""

import base64
import dataclasses
import io
import types
import typing
from typing import Any

import numpy as np


def to_plain(value: Any) -> Any:
    """What JSON can hold, for `from_plain` to read."""
    if dataclasses.is_dataclass(value):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        return base64.b64encode(buffer.getvalue()).decode()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return [[to_plain(key), to_plain(part)] for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [to_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def from_plain(kind: Any, plain: Any) -> Any:
    """A value of a type from what `to_plain` made of it.

    Args:
        kind: A dataclass, a named tuple, `tuple[X, ...]`, `list[X]`, `dict[X, Y]`, `X | None`,
            one of several dataclasses, `np.ndarray`, `bytes`,
            or what JSON holds by itself.
        plain: The JSON-ready value.

    Raises:
        ValueError, TypeError or LookupError: If it is no such value.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        kinds = [part for part in parts if part is not type(None)]
        if len(kinds) > 1:  # Dataclasses, which differ in their fields.
            kinds = [part for part in kinds if {item.name for item in dataclasses.fields(part)} == plain.keys()]
        (inner,) = kinds
        return None if plain is None else from_plain(inner, plain)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{item.name: from_plain(hints[item.name], plain[item.name]) for item in dataclasses.fields(kind)})
    if origin is dict:
        return {from_plain(parts[0], key): from_plain(parts[1], part) for key, part in plain}
    if origin is list:
        return [from_plain(parts[0], part) for part in plain]
    if origin is tuple:
        inner = [parts[0]] * len(plain) if parts[-1] is ... else parts
        return tuple(from_plain(one, part) for one, part in zip(inner, plain, strict=True))
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind)
        return kind(*(from_plain(hint, part) for hint, part in zip(hints.values(), plain, strict=True)))
    if kind is np.ndarray:
        return np.load(io.BytesIO(base64.b64decode(plain)), allow_pickle=False)
    return base64.b64decode(plain) if kind is bytes else plain
