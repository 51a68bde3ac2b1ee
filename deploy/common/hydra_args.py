"""Words of a command line that reach the configuration as they are, whatever Hydra's grammar makes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString


def with_texts(words: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Overrides of a command line whose values of some options are taken as they are; `null` stays none."""
    options = [word.partition("=") for word in words]
    return [
        f"{key}={quoted(value)}" if key in texts and value != "null" else f"{key}{equals}{value}"
        for key, equals, value in options
    ]


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
