"""Processes of our own that import this package."""

from __future__ import annotations

import os
from pathlib import Path

import slimcam


def environment() -> dict[str, str]:
    """For a child that is to find the package where this process found it, installed or not."""
    root = str(Path(next(iter(slimcam.__path__))).parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}
