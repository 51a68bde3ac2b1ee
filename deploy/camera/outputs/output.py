"""What every output may do: end the camera, and say a line to its user."""

from __future__ import annotations

import sys
from contextlib import suppress


class Stop(Exception):  # noqa: N818 - an answer, not an error
    """Raised by `Output.show` when whoever looked has had enough: the camera is to end, without an error."""


def tell(line: str) -> None:
    """A line for the camera's user, on stderr, if anybody reads it still."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(f"slimcam-camera: {line}", file=sys.stderr, flush=True)
