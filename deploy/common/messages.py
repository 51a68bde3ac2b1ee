"""Pieces of messages that many errors share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 20
"""Names that a message lists where none is near; more are of no use to a reader."""


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The end of a message about a name that is not known.

    Args:
        name: Name as it was written.
        known: the names that there are.
        cutoff: how alike two names must be, from 0 to 1, see `difflib.get_close_matches`.

    Returns:
        `; did you mean 'x'?` for the nearest name; where none is near, `; known are a, b`, or nothing of a long list.

    Example:
        >>> f"no stage 'trian'{did_you_mean('trian', ['train', 'prune'])}"
        "no stage 'trian'; did you mean 'train'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, 1, cutoff)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(names) or 'none'}" if len(names) <= _LISTED else ""


def first_line(error: BaseException) -> str:
    """The first line of an error whose other lines are for developers; its type if it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def one_line(error: BaseException | str) -> str:
    """All of an error's message, or of a text, on one line; the error's type if the message is empty."""
    return " ".join(str(error).split()) or (type(error).__name__ if isinstance(error, BaseException) else "")


def last_line(text: str, otherwise: str) -> str:
    """The last line that says something of what a program printed, where most say why they failed."""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if line), otherwise)
