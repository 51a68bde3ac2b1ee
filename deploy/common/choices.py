"""Closed sets of values of options."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

C = TypeVar("C", bound="Choice")


class Choice(str, Enum):
    """The values that an option takes, each a text: `class Scope(Choice): ALL = "all"`.

    A configuration holds the text itself, so that it is written out as it was given; a choice equals its text.
    """

    # As the text, in messages, YAML and file names: Python 3.10's own `str` of it would be `Scope.ALL`.
    __str__ = str.__str__


def choose(option: str, choices: type[C], value: str) -> C:
    """The choice of that text.

    Raises:
        ValueError: there is none. The message names the option and the choices.
    """
    try:
        return choices(value)
    except ValueError:
        raise ValueError(f"{option} is one of {', '.join(choices)}; got {value!r}") from None
