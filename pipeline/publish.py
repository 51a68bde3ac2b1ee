"""The latest results of a run under plain names, and the verdict of its gates."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from slimcam.deploy.common.files import atomic, atomic_folder, write_text
from slimcam.pipeline.config import Config
from slimcam.pipeline.stages.artifacts import (
    BUNDLE,
    COST,
    EVALUATION,
    PLAN,
    PLAN_PLOT,
    RATIOS,
    SENSITIVITY,
    SENSITIVITY_PLOT,
)
from slimcam.pipeline.stages.file_config import STAGE as COMPRESS
from slimcam.pipeline.store import RECEIPT
from slimcam.training.fit.files import EVENTS, MODEL

STAGES, PACK, STALE = "stages.json", "pack", "STALE"

logger = logging.getLogger(__name__)


def publish(config: Config, name: str, results: Mapping[str, Path]) -> Path:
    """Copies the report and the bundle to `<runs>/<name>/`, with the configuration and where all results are.

    The pack, which is large, is copied when it is asked for. What lies there of an earlier configuration and has no
    successor yet stays, and is marked as such.

    Args:
        name: of the folder below `config.paths.runs`.
        results: the result folder of each stage that is done.

    Returns:
        The folder.
    """
    folder = Path(config.paths.runs) / name
    folder.mkdir(parents=True, exist_ok=True)
    stale = _stale(folder, results)
    if report := results.get("report"):
        _replace_all(report, folder)
    if (evaluate := results.get("evaluate")) and (evaluate / BUNDLE).is_dir():
        _replace(evaluate / BUNDLE, folder / BUNDLE)
    if compressed := results.get(COMPRESS):
        for name in (MODEL, PLAN, PLAN_PLOT, COST):  # of an earlier run, which pruned
            (folder / name).unlink(missing_ok=True)
        _replace_all(compressed, folder)
    if "sensitivity" in config.stages:
        for file in (SENSITIVITY, SENSITIVITY_PLOT, RATIOS):
            _replace(results["sensitivity"] / file, folder / file)
    if "pack" in config.stages:
        _replace(results["pack"], folder / PACK)
    _mark(folder, stale)
    _replace_events(folder, results)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))
    write_text(folder / STAGES, json.dumps({stage: str(path) for stage, path in results.items()}, indent=2))
    return folder


def _replace_events(folder: Path, results: Mapping[str, Path]) -> None:
    """Copies the events of each stage to a folder of its name, which `tensorboard --logdir <runs>` shows."""
    for stage, result in results.items():
        if (result / EVENTS).is_dir():
            _replace(result / EVENTS, folder / EVENTS / stage)


def failed_gates(results: Mapping[str, Path]) -> list[str]:
    """One line for each gate that the model did not pass, with the figure and its bound."""
    if "evaluate" not in results:
        return []
    gates = json.loads((results["evaluate"] / EVALUATION).read_text())["gates"]
    return [f"gate {gate['text']}" for gate in gates if not gate["passed"]]


def _stale(folder: Path, results: Mapping[str, Path]) -> list[str]:
    """What in the folder is of an earlier configuration, and is not replaced by these results."""
    replaced = {"report.html": "report", "report.md": "report", BUNDLE: "evaluate", PACK: "pack"}
    return [name for name, stage in replaced.items() if stage not in results and (folder / name).exists()]


def _mark(folder: Path, stale: Sequence[str]) -> None:
    """Says which files are of an earlier configuration: in a file beside them, at the top of a report, and in the log.

    They stay: they may have taken days, and a device may run what is in them.
    """
    if not stale:
        (folder / STALE).unlink(missing_ok=True)
        return
    line = f"Of an earlier configuration than {STAGES} and config.yaml beside it; a whole run replaces it."
    write_text(folder / STALE, "".join(f"{name}: {line[0].lower()}{line[1:]}\n" for name in stale))
    tops = {"report.md": ("", f"> **{line}**\n\n"), "report.html": ("<body>", f"<p><b>{line}</b></p>")}
    for name in tops.keys() & set(stale):
        start, mark = tops[name]
        text = (folder / name).read_text()
        if mark not in text:
            write_text(folder / name, text.replace(start, start + mark, 1) if start in text else mark + text)
    logger.warning(f"slimcam: of an earlier configuration, in {folder}: {', '.join(stale)}")


def _replace_all(result: Path, folder: Path) -> None:
    """Copies all of a result but its receipt."""
    for source in sorted(result.iterdir()):
        if source.name != RECEIPT:
            _replace(source, folder / source.name)


def _replace(source: Path, target: Path) -> None:
    """Copies a file or folder over an old one; readers of a file never see half of it."""
    if source.is_dir():
        with atomic_folder(target) as partial:
            shutil.copytree(source, partial, dirs_exist_ok=True)
    else:
        with atomic(target) as partial:
            shutil.copyfile(source, partial)
