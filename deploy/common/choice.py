"""Closed sets of values for options, as enums."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

Member = TypeVar("Member", bound="Choice")


class Choice(str, Enum):
    """Base of an option's values. Each member is named as it is written, for OmegaConf reads enums by their names.

    Members are texts: they compare with, print and serialize as their values.

    Example:
        >>> class Scope(Choice):
        ...     inner = "inner"
        ...     all = "all"
        >>> Scope.of("inner", "prune.scope")
        <Scope.inner: 'inner'>
        >>> Scope.of("outer", "prune.scope")
        Traceback (most recent call last):
        ValueError: prune.scope is one of inner, all; got 'outer'
    """

    def __str__(self) -> str:
        return str(self.value)

    @classmethod
    def of(cls: type[Member], value: object, option: str) -> Member:
        """The member of a value, which may be one already.

        Raises:
            ValueError: it is no value of this option; the message lists those that are.
        """
        try:
            return cls(value)
        except ValueError:
            raise ValueError(f"{option} is one of {', '.join(map(str, cls))}; got {value!r}") from None
