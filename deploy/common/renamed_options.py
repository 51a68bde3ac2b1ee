"""Options under their former names, which go on working for one version."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_OVERRIDE = re.compile(r"(?P<sign>\+{0,2}|~)(?P<key>[A-Za-z_][\w.]*)(?P<rest>[=@].*|)", re.DOTALL)


def new_name(key: str, renamed: Mapping[str, str]) -> str | None:
    """The present name of an option, or of one that lies below it; `None` where it has kept its name.

    Args:
        key: Dotted name, for example `track.patience`.
        renamed: Dotted names, the former to the present one.
    """
    for old, new in renamed.items():
        if key == old or key.startswith(f"{old}."):
            return new + key[len(old) :]
    return None


def below(section: str, renamed: Mapping[str, str]) -> dict[str, str]:
    """The former and present names of a section's options with the name of the section before them."""
    return {f"{section}.{old}": f"{section}.{new}" for old, new in renamed.items()}


def notice(old: str, new: str) -> str:
    """The line that tells a user of a former name."""
    return f"{old} is called {new} now; the former name still works in this version"


def with_new_names(words: Sequence[str], renamed: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Overrides of a command line with the present names of options.

    Args:
        words: Hydra's overrides (`track.patience=2`) and flags.
        renamed: Dotted names, the former to the present one.

    Returns:
        The overrides, and a notice for each former name among them.
    """
    found, notices = [], []
    for word in words:
        override = _OVERRIDE.fullmatch(word)
        new = new_name(override["key"], renamed) if override else None
        if override and new is not None:
            notices.append(notice(override["key"], new))
            word = f"{override['sign']}{new}{override['rest']}"
        found.append(word)
    return found, notices
