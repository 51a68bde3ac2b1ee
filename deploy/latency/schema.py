"""Dataclasses from JSON, every field and type checked; there is nothing in it about latency."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def from_json(kind: type[T], value: Any, where: str) -> T:
    """Makes a `kind` of what `json.loads` gave.

    Args:
        kind: a dataclass whose fields are dataclasses, `bool`, `int`, `float`, `str`, lists, dictionaries with
            text keys, or one of these and `None`.
        value: Value of the JSON text.
        where: Name of the value in errors.

    Raises:
        ValueError: a field is missing, unknown, or of another type, or the dataclass refuses it.
    """
    built: T = _build(kind, value, where)
    return built


def _build(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _build(inner, value, where)
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is list:
        entries = _expect(value, list, where)
        return [_build(arguments[0], entry, f"{where}[{index}]") for index, entry in enumerate(entries)]
    if origin is dict:
        return {
            key: _build(arguments[1], entry, f"{where}.{key}") for key, entry in _expect(value, dict, where).items()
        }
    if kind is float and type(value) is int:
        return float(value)
    return _expect(value, kind, where)


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    entries = _expect(value, dict, where)
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    for name in names:
        if name not in entries:
            raise ValueError(f"{where} has no {name!r}")
    for name in entries:
        if name not in names:
            raise ValueError(f"{where} has an unknown field {name!r}")
    return kind(**{name: _build(hints[name], entries[name], f"{where}.{name}") for name in names})


def _expect(value: Any, kind: type, where: str) -> Any:
    # Not isinstance: a bool is an int to it.
    if type(value) is not kind:
        raise ValueError(f"{where} is {type(value).__name__}, not {kind.__name__}")
    return value
