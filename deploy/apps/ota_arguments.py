"""Words of `slimcam-ota` as Hydra's overrides: `promote 8 ring=stable`, `rotate root1`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from slimcam.deploy.common.hydra_args import quoted

ARGUMENTS = {
    "init": None,
    "publish": None,
    "promote": "release",
    "withdraw": "release",
    "rotate": "name",
    "renew": None,
    "status": None,
    "serve": None,
    "update": None,
}
"""The commands, and what the word after each is."""

TEXTS = ("repository", "keys", "detector", "recognizer", "url", "root", "folder", "device", "gallery", "key", "where")
"""Options whose values are taken as they are."""


def overrides(words: Sequence[str]) -> list[str]:
    """What Hydra is to read in place of the words of the command line.

    Raises:
        ValueError: there is no such command, its argument is missing, or there are words too many.
    """
    if not words or words[0].startswith("-"):
        return list(words)
    command, rest = words[0], list(words[1:])
    if command not in ARGUMENTS:
        raise ValueError(f"{command!r} is not a command; known are {', '.join(ARGUMENTS)}")
    found = [f"command={command}"]
    argument = ARGUMENTS[command]
    if argument is not None:
        if not rest or "=" in rest[0]:
            raise ValueError(f"slimcam-ota {command} needs a {argument}: slimcam-ota {command} {argument.upper()}")
        found.append(f"{argument}={quoted(rest.pop(0))}")
    for word in rest:
        option = re.match(r"[A-Za-z_][\w.]*(?==)", word)
        if (option and option[0].rpartition(".")[2] in TEXTS) or (option and option[0].startswith("init.")):
            found.append(f"{option[0]}={quoted(word[option.end() + 1 :])}")
        elif option or word.startswith("-"):
            found.append(word)
        else:
            raise ValueError(f"slimcam-ota {command}: {word!r} is one word too many; options are written name=value")
    return found
