"""What the user of a console script sees: the log of our packages, and results.

Library code logs to `logging.getLogger(__name__)` and prints nothing, so that it can be embedded; an application calls
`log_to_console` at its start, and `show` for the results that it was asked for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

PACKAGES = ("slimcam", "__main__")
"""Loggers that the console shows; `__main__` is that of a module run with `python -m`."""


class _ConsoleHandler(logging.Handler):
    """One line for each record: on stderr, or on stdout what loggers of some packages say below a warning."""

    def __init__(self, to_stdout: Sequence[str], prefix: str) -> None:
        super().__init__()
        self._to_stdout = tuple(to_stdout)
        self.setFormatter(logging.Formatter(prefix.replace("%", "%%") + "%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        ours = any(record.name == package or record.name.startswith(f"{package}.") for package in self._to_stdout)
        result = record.levelno < logging.WARNING and ours
        # Looked up each time: whoever redirects them means this too.
        stream = sys.stdout if result else sys.stderr
        # Without a terminal, or with one that was closed, nobody reads it.
        if stream is not None:
            with suppress(OSError, ValueError):
                print(self.format(record), file=stream, flush=True)


def log_to_console(level: int = logging.INFO, to_stdout: Sequence[str] = (), prefix: str = "") -> None:
    """Shows the log of our packages on the console, one line a record; called again, it replaces what it did before.

    Args:
        level: Least severe records that are shown.
        to_stdout: Packages whose records below WARNING are results, and go to stdout.
        prefix: What each line begins with, where several processes write to one console.
    """
    handler = _ConsoleHandler(to_stdout, prefix)
    for package in PACKAGES:
        logger = logging.getLogger(package)
        for old in [each for each in logger.handlers if isinstance(each, _ConsoleHandler)]:
            logger.removeHandler(old)
        logger.addHandler(handler)
        logger.setLevel(level)


def version_asked(program: str, words: Sequence[str]) -> bool:
    """Shows the version of slimcam where a command line asks for it, and tells whether it did."""
    if "--version" not in words:
        return False
    show(f"{program} {version('slimcam')}")
    return True


def show(text: str, to_stderr: bool = False) -> None:
    """Prints a result that the user asked for; on stderr where stdout is taken by other data."""
    print(text, file=sys.stderr if to_stderr else sys.stdout, flush=True)
