"""What a stage of the pipeline is handed: its configuration, its inputs, and where its results go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One run of a stage.

    Attributes:
        config: Configuration, its sections as attributes (`config.train`, `config.data`, ...).
        inputs: Result folder of each stage that this one builds on, by stage name.
        out: Folder for the results; it becomes visible to others only when the stage has finished.
        work: Scratch folder that survives a kill (checkpoints); removed when the stage has finished.
        cache: Folder for derived data that stages share (synthetic faces, teacher embeddings).
    """

    config: Any
    inputs: dict[str, Path]
    out: Path
    work: Path
    cache: Path
