"""How far a measurement is."""

from __future__ import annotations

import sys


def say(line: str) -> None:
    """Tells the user how far the benchmark is."""
    print(f"benchmark: {line}", file=sys.stderr, flush=True)
