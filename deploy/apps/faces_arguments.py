"""Words of command lines as Hydra's overrides: `enroll "O'Hara, A." a.jpg consent=...`, `source=rtsp://u:p,w@host/`."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from slimcam.deploy.common.hydra_args import expanded, quoted

logger = logging.getLogger(__name__)

ARGUMENTS = {
    "enroll": ("name",),
    "list": (),
    "forget": ("name",),
    "rename": ("name", "new"),
    "merge": ("name", "into"),
    "remove-template": ("name", "template"),
    "expire": ("name", "day"),
    "export": ("file",),
    "import": ("file",),
    "check": (),
    "re-enroll": (),
    "audit": (),
}
"""The commands, and what the words after each are. They are taken as they are: any name goes, `a=b` and `-x` too."""

FORMER = {"enrol": "enroll", "re-enrol": "re-enroll"}
"""Former names of commands, which work for one version more."""

PATHS = ("gallery", "key", "recognizer", "detector")
TEXTS = ("consent", "expires", "source", "person")
"""Options whose values are taken as they are: who writes `consent="yes, to John"` must not know Hydra's grammar."""


def overrides(words: Sequence[str]) -> list[str]:
    """What Hydra is to read in place of the words of the command line.

    After the command and its argument, `key=value` are options, words that begin with a dash are Hydra's, and all
    others are pictures (`./a=b.jpg` for one with such a name).

    Raises:
        ValueError: there is no such command, or its argument is missing, or there are words too many, or one is `???`.
    """
    if not words or words[0].startswith("-"):
        return list(words)
    command, rest = words[0], list(words[1:])
    if command in FORMER:
        logger.warning("slimcam-faces %s is now slimcam-faces %s", command, FORMER[command])
        command = FORMER[command]
    if command not in ARGUMENTS:
        raise ValueError(f"{command!r} is not a command; known are {', '.join(ARGUMENTS)}")
    found = [f"command={command}"]
    for argument in ARGUMENTS[command]:
        if not rest:
            usage = " ".join(one.upper() for one in ARGUMENTS[command])
            raise ValueError(f"slimcam-faces {command} lacks {argument.upper()}: slimcam-faces {command} {usage}")
        word = rest.pop(0)
        found.append(f"{argument}={quoted(expanded(word) if argument == 'file' else word)}")
    pictures = []
    for word in rest:
        option = re.match(r"[A-Za-z_][\w.]*(?==)", word)
        if option and option[0] in (*TEXTS, *PATHS):
            value = word[option.end() + 1 :]
            found.append(f"{option[0]}={quoted(expanded(value) if option[0] in PATHS else value)}")
        elif option or word.startswith("-"):
            found.append(word)
        else:
            pictures.append(word)
    if pictures and command != "enroll":
        raise ValueError(f"slimcam-faces {command}: {pictures[0]!r} is one word too many; quote names that have spaces")
    if pictures:
        found.append(f"pictures=[{','.join(quoted(expanded(picture)) for picture in pictures)}]")
    return found
