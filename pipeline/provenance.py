"""What produced a result: library versions, the commit of the code, the machine."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slimcam.deploy.latency.machine import git_commit, read_machine

LIBRARIES = (
    "slimcam",
    "numpy",
    "opencv-python-headless",
    "ai-edge-litert",
    "keras",
    "tensorflow",
    "tf_keras",
    "tensorflow-model-optimization",
    "jax",
    "torch",
)


@functools.cache
def provenance() -> dict[str, Any]:
    """`libraries` (those installed, with versions), `commit` (`None` outside a git checkout) and `machine`."""
    commit = git_commit(Path(__file__).resolve().parent.parent)
    return {"libraries": _libraries(), "commit": commit, "machine": asdict(read_machine())}


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
