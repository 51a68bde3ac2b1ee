from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slimcam.pipeline.config import PathsConfig

HERE = Path(__file__).parent


@dataclass
class Toy:
    """A configuration for toy stages, with sections that are mere numbers."""

    paths: PathsConfig
    stages: list[str]
    backend: str = "tensorflow"
    one: int = 1
    two: int = 2
    three: dict[str, int] = field(default_factory=lambda: {"value": 3, "workers": 1})


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.syspath_prepend(HERE)
    paths = PathsConfig(*(str(tmp_path / name) for name in ("runs", "store", "cache")))
    return Toy(paths, ["first", "second", "third"])


@pytest.fixture
def environment() -> dict[str, str]:
    """For a Python process that is to find the toy stages and this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent), *sys.path])}
