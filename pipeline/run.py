"""Runs the stages that are not done yet."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from slimcam.pipeline import store, worker
from slimcam.pipeline.provenance import provenance
from slimcam.pipeline.steps import Stage, Step, select, stages_of, steps
from slimcam.training.fit.progress import duration
from slimcam.training.tasks.job import Job

logger = logging.getLogger(__name__)


class StageError(Exception):
    """A stage failed; the message is one line that says why and where the details are."""


def run(config: Any, stages: Sequence[Stage] | None = None) -> dict[str, Path]:
    """Brings the results of `config.stages` up to date, and logs what was done.

    Args:
        config: the configuration; `config.paths` says where results (`store`) and derived data (`cache`) are kept.
        stages: the pipeline's stages in order; those of the configuration if absent.

    Returns:
        The result folder of every stage that is done, by name.

    Raises:
        ValueError: no such stage, or one builds on a result that is not there.
        StageError: a stage failed.
    """
    stages = stages_of(config) if stages is None else stages
    selected = select(config.stages, stages)
    plan = steps(config, stages)
    root = Path(config.paths.store).absolute()
    slots = {name: store.slot(root, name, step.key) for name, step in plan.items()}
    done = {stage.name for stage in stages if _current(stage, slots)}
    _require_inputs(selected, done, stages)
    width = max(len(stage.name) for stage in selected)
    ran = False
    for stage in selected:
        if _current(stage, slots):
            logger.info(f"{stage.name:{width}}  up to date")
            continue
        _run_stage(plan[stage.name], slots, config, f"{stage.name:{width}}")
        done.add(stage.name)
        ran = True
    if not ran:
        logger.info("nothing to do: every result is there, made with this configuration")
    return {name: slots[name].final for name in plan if name in done}


def _current(stage: Stage, slots: Mapping[str, store.Slot]) -> bool:
    """Whether a stage has a result, made of the very inputs that are there now."""
    receipt = store.read_receipt(slots[stage.name])
    if receipt is None:
        return False
    sources = {name: store.read_receipt(slots[name]) for name in stage.inputs}
    return all(
        source is None or receipt["made_of"][name] == store.content_digest(source) for name, source in sources.items()
    )


def _require_inputs(selected: Sequence[Stage], done: set[str], stages: Sequence[Stage]) -> None:
    names = {stage.name for stage in selected}
    by_name = {stage.name: stage for stage in stages}
    missing: set[str] = set()

    def visit(stage: Stage) -> None:
        for name in stage.inputs:
            if name not in names and name not in done and name not in missing:
                missing.add(name)
                visit(by_name[name])

    for stage in selected:
        if stage.name not in done:
            visit(stage)
    if missing:
        lacking = ", ".join(stage.name for stage in stages if stage.name in missing)
        complete = ",".join(stage.name for stage in stages if stage.name in names | missing)
        raise ValueError(f"no result of {lacking} with this configuration yet; run it as well: stages=[{complete}]")


def _run_stage(step: Step, slots: dict[str, store.Slot], config: Any, label: str) -> None:
    stage, place = step.stage, slots[step.stage.name]
    with store.claim(place) as lock:
        if _current(stage, slots):  # another run made it while this one was busy
            logger.info(f"{label}  up to date")
            return
        resumed = store.prepare(place)
        logger.info(f"{label}  {'goes on from where it was stopped' if resumed else 'running'}")
        inputs = {name: slots[name].final for name in stage.inputs}
        # Only the declared sections: what a stage cannot see, its result cannot depend on.
        visible = SimpleNamespace(**{section: getattr(config, section) for section in stage.sections})
        job = Job(visible, inputs, place.out, place.work, Path(config.paths.cache).absolute())
        backend = config.backend if stage.backend == "keras" else stage.backend
        started, clock, killed = datetime.now(timezone.utc), time.monotonic(), _killed_for_memory()
        child = worker.start(worker.Request(stage.function, job, backend, place.error_log), lock=lock)
        try:
            code = child.wait()
        finally:
            worker.stop(child)
        if code != 0:
            raise StageError(_failure(stage, place, code, _killed_for_memory() > killed))
        seconds = time.monotonic() - clock
        made_of = {name: store.content_digest(store.read_receipt(slots[name])) for name in stage.inputs}
        receipt = {
            **step.facts,
            "made_of": made_of,
            "key": step.key,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 1),
            "resumed": resumed,
            **provenance(),
        }
        store.publish(place, receipt)
        logger.info(f"{label}  done in {duration(seconds)}")


def _killed_for_memory() -> int:
    """How many processes of this machine the kernel has killed for want of memory; 0 where it does not tell."""
    try:
        counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(counters.get("oom_kill", 0))


def _failure(stage: Stage, place: store.Slot, code: int, for_memory: bool) -> str:
    try:
        line = place.error_log.read_text().splitlines()[0]
    except (OSError, IndexError):
        if code == -signal.SIGKILL and for_memory:
            return (
                f"{stage.name}: its process was killed for want of memory, and the same command would be again: lower "
                "fit.batch_size, model.input_size or data, or give the machine more"
            )
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{stage.name}: its process {cause}; the same command goes on from its last checkpoint"
    return f"{stage.name}: {line} (details: {_short(place.error_log)})"


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
