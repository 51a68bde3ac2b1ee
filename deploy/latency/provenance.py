"""Provenance in a record: the model, what executes it, and the version of slimcam."""

from __future__ import annotations

import importlib.metadata
from datetime import datetime, timezone
from pathlib import Path

from slimcam import deploy
from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.latency.machine import git_commit
from slimcam.deploy.latency.record import Execution, MeasuredModel


def identify(name: str, file: Path) -> MeasuredModel:
    """Name, digest and size of a model."""
    return MeasuredModel(name, file_sha256(file), file.stat().st_size)


def own_version() -> tuple[str, str | None]:
    """slimcam's version and the commit of its checkout, where it runs from one."""
    try:
        version = importlib.metadata.version("slimcam")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    return version, git_commit(Path(deploy.__path__[0]).parent)


def now_utc() -> str:
    """ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def execution(interpreter: Interpreter, threads: int, processors: list[int] | None) -> Execution:
    """Runtime, delegate and threads that execute a model."""
    delegation = interpreter.delegation()
    return Execution(
        runtime=interpreter.runtime.name,
        runtime_version=interpreter.runtime.version,
        delegate=delegation.delegate,
        delegated_operators=delegation.delegated,
        operators=delegation.total,
        left_out=list(delegation.left_out),
        threads=threads,
        affinity=processors,
    )
