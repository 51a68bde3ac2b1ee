"""What was meant by an option that there is not: the groups, the sections, and other members of a group."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from slimcam import conf
from slimcam.pipeline.config import SCHEMAS

_MOST = 4
"""Options of one name that a hint lists."""


_COMMANDS = dict.fromkeys(("model=file", "data=samples", "prune=file"), "slimcam compress")
"""What is chosen by a command of its own."""


def hint(path: str) -> str:
    """The end of a line about an option of this dotted name: `; did you mean train.fit.epochs?`, or nothing.

    Args:
        path: `debgu`, `epochs`, or `data.root` where the data are of a kind without a root.
    """
    section, _, key = path.rpartition(".")
    if section in _groups():
        others = [name.partition("/")[2] for name, schema in SCHEMAS.items() if _has(name, schema, section, key)]
        commands = [f"{section}={other}" for other in others]
        return f"; it is an option of {_either([_COMMANDS.get(each, each) for each in commands])}" if others else ""
    if section:
        return ""
    if key in _groups():
        return f"; choose one of the group: {key}=NAME, see slimcam --help"
    named = [option for option in _options() if option.rpartition(".")[2] == key]
    if named:
        return f"; did you mean {_either(named[:_MOST])}?"
    return "".join(f"; did you mean {name!r}?" for name in difflib.get_close_matches(key, _names(), 1, 0.6))


def _has(name: str, schema: type, section: str, key: str) -> bool:
    return name.startswith(f"{section}/") and key in {option.name for option in fields(schema)}


def _either(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _groups() -> list[str]:
    return sorted(path.name for path in Path(str(conf.__file__)).parent.iterdir() if path.is_dir())


def _names() -> list[str]:
    return [*_groups(), *(option.name for option in fields(SCHEMAS["slimcam"]))]


def _options() -> Iterator[str]:
    """The dotted names of all options of the sections, as a recognizer has them."""
    for name, schema in SCHEMAS.items():
        if "/" not in name and name != "slimcam":
            yield from _below(name, schema())


def _below(path: str, section: Any) -> Iterator[str]:
    for option in fields(section):
        value = getattr(section, option.name)
        if is_dataclass(value):
            yield from _below(f"{path}.{option.name}", value)
        else:
            yield f"{path}.{option.name}"
