"""What each option means: `docs/options.md` and the help, from the docstrings of the dataclasses.

python -m slimcam.pipeline.options > docs/options.md
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any

from slimcam.deploy.benchmark.targets import TARGETS
from slimcam.pipeline.config import SCHEMAS

_SECTIONS = ("slimcam", "paths", "model", "train", "prune", "quantize", "convert", "evaluate", "search")
"""Sections of a recognizer's configuration; those of other tasks and of data sources follow them."""


@dataclass(frozen=True)
class Option:
    """An option of a section.

    Attributes:
        name: Below its section, dotted.
        default: As one would write it.
        meaning: From the docstring of its dataclass.
    """

    name: str
    default: str
    meaning: str


def options_of(schema: type, path: str = "") -> Iterator[Option]:
    """The options of a dataclass, those of dataclasses inside it among them.

    Raises:
        ValueError: an option without a meaning.
    """
    meanings = _meanings(schema)
    for option in fields(schema):
        if option.name == "kind":  # the name of a data source's schema, and no option
            continue
        value = _default(option)
        name = f"{path}{option.name}"
        if option.name not in meanings and not is_dataclass(value):
            raise ValueError(f"{schema.__name__}.{option.name} is not described in Attributes of its docstring")
        if is_dataclass(value):
            yield from options_of(type(value), f"{name}.")
        else:
            meaning = meanings[option.name]
            yield Option(name, _written(value), meaning[:1].upper() + meaning[1:])


def page() -> str:
    """`docs/options.md`."""
    lines = [
        "# All options",
        "",
        "Written from the dataclasses by `python -m slimcam.pipeline.options > docs/options.md`; a test keeps it so.",
        "Options are given as `key=value`, groups as `group=NAME`; files in `conf/` change some of these defaults, and",
        "`slimcam --cfg job ...` shows what a command comes to.",
        "",
    ]
    for name, schema in _described().items():
        lines += [f"## {_title(name)}", "", _summary(schema), "", "| option | default | meaning |", "|---|---|---|"]
        lines += [f"| `{one.name}` | `{one.default}` | {_cell(one.meaning)} |" for one in _own(name)]
        lines.append("")
    return "\n".join(lines)


def help_text(*sections: str) -> str:
    """The options of some sections, a line each, for `--help`; those of a recognizer where none is named."""
    found = []
    for section in sections or _SECTIONS:
        prefix = "" if section == "slimcam" else f"{section.partition('/')[0]}."
        for option in _own(section):
            sentence = re.split(r"(?<!al)\.(?= [A-Z])", option.meaning, maxsplit=1)[0].rstrip(".")
            meaning = textwrap.shorten(sentence, 100, placeholder=" ...")
            found.append(f"{prefix}{option.name:<{36 - len(prefix)}} {meaning}")
    return "\n".join(found)


def _own(name: str) -> list[Option]:
    """The options of a section; those of the run without the sections inside it, which have their own."""
    found = list(options_of(_described()[name]))
    return found if name != "slimcam" else [option for option in found if option.name.split(".")[0] not in SCHEMAS]


def _described() -> dict[str, type]:
    sections = {name: SCHEMAS[name] for name in _SECTIONS}
    others = {name: schema for name, schema in SCHEMAS.items() if name not in sections}
    return {**sections, **others, **{f"benchmark/{name}": schema for name, (schema, _) in TARGETS.items()}}


def _title(name: str) -> str:
    section, _, choice = name.partition("/")
    return "The run" if name == "slimcam" else f"`{section}={choice}`" if choice else f"`{section}`"


def _summary(schema: type) -> str:
    return " ".join((inspect.getdoc(schema) or "").split("\n\n")[0].split())


def _meanings(schema: type) -> dict[str, str]:
    """The `Attributes` of a dataclass and of those it extends; a line may name several."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        _, _, listed = text.partition("Attributes:\n")
        listed = listed.split("\n\n")[0]
        for entry in re.split(r"\n(?=    \S)", listed):
            names, separator, meaning = entry.partition(": ")
            if separator:
                found |= dict.fromkeys((name.strip() for name in names.split(",")), " ".join(meaning.split()))
    return found


def _default(option: Field[Any]) -> Any:
    if option.default_factory is not MISSING:
        return option.default_factory()
    return "???" if option.default is MISSING else option.default


def _written(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace("'", "") if isinstance(value, (list, dict, tuple)) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
