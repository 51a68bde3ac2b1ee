"""The latest results of a run under plain names, and the verdict of its gates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

from slimcam.deploy.common.files import atomic, atomic_folder, write_text
from slimcam.pipeline.config import Config
from slimcam.pipeline.stages.artifacts import BUNDLE, EVALUATION
from slimcam.pipeline.store import RECEIPT
from slimcam.training.fit.files import EVENTS

STAGES, PACK = "stages.json", "pack"


def publish(config: Config, name: str, results: Mapping[str, Path]) -> Path:
    """Copies the report and the bundle to `<runs>/<name>/`, with the configuration and where all results are.

    The pack, which is large, is copied when it is asked for.

    Args:
        name: of the folder below `config.paths.runs`.
        results: the result folder of each stage that is done.

    Returns:
        The folder.
    """
    folder = Path(config.paths.runs) / name
    folder.mkdir(parents=True, exist_ok=True)
    _withdraw(folder, results)
    if report := results.get("report"):
        for source in sorted(report.iterdir()):
            if source.name != RECEIPT:
                _replace(source, folder / source.name)
    if (evaluate := results.get("evaluate")) and (evaluate / BUNDLE).is_dir():
        _replace(evaluate / BUNDLE, folder / BUNDLE)
    if getattr(config.model, "path", None) is not None:
        for source in results["prune"].iterdir():
            if source.name != RECEIPT:
                _replace(source, folder / source.name)
    if "pack" in config.stages:
        _replace(results["pack"], folder / PACK)
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


def _withdraw(folder: Path, results: Mapping[str, Path]) -> None:
    """Removes the report and the bundle of an earlier configuration, which a shorter run does not replace."""
    try:
        earlier = json.loads((folder / STAGES).read_text())
    except (OSError, ValueError):
        return
    if "report" in earlier and "report" not in results:
        for source in Path(earlier["report"]).glob("*"):
            _remove(folder / source.name)
    if "evaluate" in earlier and "evaluate" not in results:
        _remove(folder / BUNDLE)
    if "pack" in earlier and "pack" not in results:
        _remove(folder / PACK)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _replace(source: Path, target: Path) -> None:
    """Copies a file or folder over an old one; readers of a file never see half of it."""
    if source.is_dir():
        with atomic_folder(target) as partial:
            shutil.copytree(source, partial, dirs_exist_ok=True)
    else:
        with atomic(target) as partial:
            shutil.copyfile(source, partial)
