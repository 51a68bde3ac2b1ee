"""Words of a command line that reach the configuration as they are, whatever Hydra's grammar makes of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from hydra.core.override_parser.types import Quote, QuotedString

_OVERRIDE = re.compile(r"(\+{0,2})([A-Za-z_][\w.]*)=(.*)", re.DOTALL)


def with_texts(
    words: Sequence[str],
    texts: Sequence[str] = (),
    paths: Callable[[str], bool] | Sequence[str] = (),
    *,
    lists: bool = False,
    sweep: bool = False,
) -> list[str]:
    """Overrides of a command line whose values of some options are taken as they are; `null` stays none.

    Args:
        words: As they were typed.
        texts: Options with any text for a value.
        paths: Options with a file or folder for a value, in which a leading `~` is expanded: a shell leaves it in
            `key=~/file`. Or what tells them by their names.
        lists: Whether a value in brackets, `[a,b]`, is a list in Hydra's grammar, and one in braces, `{a: b}`, a
            dictionary, which may have new keys.
        sweep: Whether a value with commas stands for several runs.
    """
    is_path = paths if callable(paths) else paths.__contains__

    def override(word: str) -> str:
        found = _OVERRIDE.fullmatch(word)
        if found is None:
            return word
        sign, key, value = found.groups()
        dictionary = lists and value.startswith("{") and not is_path(key)
        if value == "null" or (lists and value.startswith("[")) or (sweep and "," in value and not dictionary):
            return word
        if is_path(key):
            return f"{sign}{key}={quoted(expanded(value))}"
        if key in texts:
            return f"{sign}{key}={quoted(value)}"
        # Hydra takes a key that a dictionary does not have yet with `++` alone. A misspelt option is found later.
        return f"++{word}" if dictionary and not sign else word

    return [override(word) for word in words]


def expanded(path: str) -> str:
    """A path with `~` or `~user` at its start expanded, where there is such a user."""
    return os.path.expanduser(path)  # noqa: PTH111 - Path would drop `./` and fail where there is no home


def quoted(text: str) -> str:
    """A text that reaches the configuration as it is: quoted for Hydra, its `${` escaped for OmegaConf.

    Raises:
        ValueError: it is `???`, which OmegaConf takes for a value that is missing, however it is written.
    """
    if text == "???":
        raise ValueError("'???' stands for what is missing and cannot be a value; give another one")
    # Half of the backslashes before `${` are read as escapes of each other, so they are doubled.
    escaped = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + r"\${", text)
    return QuotedString(escaped, Quote.single).with_quotes()
