"""What became of the members of a sweep or a search: a file in the folder of each.

A launcher may run them in other processes, or on other machines, of which any may be killed. So nothing is handed from
one to the other but files: all members have one before the first begins, and each changes its own as it goes.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from slimcam.deploy.common.config_errors import explain
from slimcam.deploy.common.console import show
from slimcam.deploy.common.files import write_text
from slimcam.pipeline.config import Config
from slimcam.pipeline.hints import hint
from slimcam.pipeline.publish import failed_gates, publish
from slimcam.pipeline.report.table import summary
from slimcam.pipeline.run import StageError, run
from slimcam.pipeline.stages.artifacts import SUMMARY
from slimcam.pipeline.stages.file_config import STAGE as COMPRESS

logger = logging.getLogger(__name__)

MEMBER = "member.json"

DONE, ERROR, GATES_FAILED = 0, 1, 3

LAUNCHERS = ("joblib", "submitit", "ray")
"""Launchers of Hydra that are extras of the package, by those names."""


@dataclass(frozen=True)
class Outcome:
    """What became of a member.

    Attributes:
        code: Exit code of its run.
        line: Why it has no report that compares; empty where it has one.
    """

    code: int
    line: str = ""


WAITS = Outcome(ERROR, "has not begun; the same command begins it")
STOPPED = Outcome(ERROR, "has not come to its end; the same command goes on with it")
NO_REPORT = "it has no report (stage report)"


def perform(config: Config, name: str) -> Outcome:
    """Brings a run up to date, publishes its results, and tells what they are.

    Args:
        name: Of the folder below `config.paths.runs`.

    Raises:
        ValueError: What the configuration asks for cannot be.
        StageError: A stage failed.
    """
    results = run(config)
    folder = publish(config, name, results)
    show(f"results are in {folder}")
    if "report" in config.stages:
        show(summary(results))
    if COMPRESS in results:
        show((results[COMPRESS] / SUMMARY).read_text())
    failures = failed_gates(results) if {"evaluate", "report"} & set(config.stages) else []
    for line in failures:
        logger.error(f"slimcam: {line}")
    return Outcome(GATES_FAILED if failures else DONE, "" if "report" in results else NO_REPORT)


def write(folder: Path, outcome: Outcome) -> None:
    write_text(folder / MEMBER, json.dumps(asdict(outcome)) + "\n")


def read(folder: Path) -> Outcome | None:
    """The outcome of a member; none where this is no folder of a member."""
    try:
        return Outcome(**json.loads((folder / MEMBER).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def attempt(folder: Path, work: Callable[[], Outcome], *, tracebacks: bool = False) -> Outcome:
    """Does the work of a member, and keeps what became of it; its failure is told, and ends nothing else.

    Args:
        folder: Of the member.
        tracebacks: Whether a failure is told with its traceback.
    """
    write(folder, STOPPED)
    try:
        outcome = work()
    except Exception as error:
        line = failure(error)
        logger.error(traceback.format_exc() if tracebacks else f"slimcam: {line}")
        outcome = Outcome(ERROR, line)
    write(folder, outcome)
    return outcome


def failure(error: Exception) -> str:
    """One line about an error that ends a run, with what to do."""
    if type(error).__name__ == "TerminatedWorkerError":  # of joblib, which is not always there
        return "a process of the launcher was killed, and with it the others ended; the same command goes on"
    line = explain(error, hint)
    if isinstance(error, MissingConfigException):
        launcher = (error.missing_cfg_file or "").removeprefix("hydra/launcher/").partition("_")[0]
        line += f"; install it: pip install 'slimcam[{launcher}]'" if launcher in LAUNCHERS else ""
    if not isinstance(error, (ValueError, OSError, StageError, HydraException, OmegaConfBaseException)):
        line = f"{type(error).__name__}: {line} (HYDRA_FULL_ERROR=1 shows where)"
    return line


def own_part(job: Any) -> str:
    """What sets a member of a sweep apart from its siblings, as the name of a folder.

    Args:
        job: `hydra.job` of its configuration.
    """
    return re.sub(r"[^A-Za-z0-9_.,=+-]+", "_", re.sub(r"(^|,)\++", r"\1", job.override_dirname))


def folder_of(config: DictConfig, job: Any) -> Path:
    """The folder of the member of a sweep that has this configuration.

    Args:
        job: `hydra.job` of it.
    """
    return Path(str(config.paths.runs)) / str(config.name) / own_part(job)


class Announced(Callback):
    """Hydra's callback that lists the members of a sweep, and marks each as waiting, before the first begins."""

    folders: ClassVar[list[Path]] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        self.folders.clear()
        # What is wrong with the options is said by Hydra, which composes the same right after.
        with suppress(HydraException, OmegaConfBaseException):
            loader = GlobalHydra.instance().config_loader()
            params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
            overrides = OverridesParser.create(loader).parse_overrides([*params, *config.hydra.overrides.task])
            (members,) = BasicSweeper.split_arguments(overrides, None)
            composed = [loader.load_sweep_config(config, words) for words in members]
            self.folders[:] = [folder_of(member, member.hydra.job) for member in composed]
        for folder in self.folders:
            write(folder, WAITS)


def outcomes(folders: Iterable[Path]) -> Mapping[Path, Outcome]:
    """What became of members, by their folders."""
    return {folder: outcome for folder in folders if (outcome := read(folder)) is not None}
