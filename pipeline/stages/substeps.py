"""A stage of several trainings, one after the other: their folders, and one history of all.

Each but the last leaves its result in the stage's scratch folder, from which a killed stage goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slimcam.pipeline.stages.artifacts import HISTORY
from slimcam.training.fit.checkpoint import History
from slimcam.training.fit.files import EVENTS
from slimcam.training.tasks.job import Job


def substeps(job: Job, name: str, count: int) -> list[Job]:
    """The job in `count` steps called `name-1-of-3` and so on: the result of the last is the stage's."""
    folders = [job.work / f"{name}-{number}-of-{count}" for number in range(1, count + 1)]
    return [replace(job, work=folder, out=job.out if folder is folders[-1] else folder / "out") for folder in folders]


def restart_events(step: Job) -> None:
    """Removes the events that a killed process has logged of a step: a fit logs them again."""
    shutil.rmtree(step.out / EVENTS, ignore_errors=True)


def keep_events(job: Job, steps: Sequence[Job]) -> None:
    """Copies the TensorBoard events of all steps but the last to the stage's, a folder each."""
    for step in steps[:-1]:
        if (step.out / EVENTS).is_dir():
            shutil.copytree(step.out / EVENTS, job.out / EVENTS / step.work.name)


def continued(source: Path, history: History) -> History:
    """The history in a result folder and one that follows it, whose steps and epochs count on."""
    earlier: History = [json.loads(line) for line in (source / HISTORY).read_text().splitlines()]
    done = earlier[-1]
    return earlier + [entry | {name: entry[name] + done[name] for name in ("step", "epoch")} for entry in history]
