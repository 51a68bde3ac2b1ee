"""The train stage: a dense model from a configuration."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from slimcam.deploy.common.files import write_text
from slimcam.pipeline.stages.artifacts import DATA, write_history
from slimcam.pipeline.stages.substeps import continued, keep_events, restart_events, substeps
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.files import MODEL, load_keras, save_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Task, Teacher, TrainingSpec, input_size, task_of

_BATCH = 64

logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes `model.keras`, `history.jsonl`, `data.json`, and what the task leaves for the stages after it.

    Each phase before the last leaves the same in a folder of its own under `job.work`, from which a killed stage goes
    on; the history is that of all phases.
    """
    task = task_of(job)
    announce(task)
    write_text(job.out / DATA, json.dumps(task.describe(), indent=2))
    fits = job.config.train.fits
    phases = [job] if len(fits) == 1 else substeps(job, "phase", len(fits))
    source = None
    for phase, fit in zip(phases, fits, strict=True):
        if not (phase.out / MODEL).is_file():
            _train(phase, source, fit, task, "train" if len(fits) == 1 else f"train {phase.work.name}")
        source = phase.out
    keep_events(job, phases)


def _train(job: Job, source: Path | None, fit: FitConfig, task: Task, title: str) -> None:
    """Trains the model of a result folder, or a new one, and writes it last."""
    import keras

    from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm

    restart_events(job)
    keras.utils.set_random_seed(job.config.train.seed)
    model = task.build() if source is None else load_keras(source / MODEL)
    images = job.config.train.bn_images

    def recalibrate(model: Any) -> None:
        recalibrate_batch_norm(model, task.samples(images, input_size(model), _BATCH))

    spec = TrainingSpec(
        fit, job.config.train.loss, Teacher.EXTERNAL, source, keras, title, recalibrate if images else None
    )
    history = task.learn(model, spec, job)
    if images:
        recalibrate(model)
    write_history(job.out, history if source is None else continued(source, history))
    save_keras(model, job.out / MODEL)


def announce(task: Task) -> None:
    """Logs what the data source gave and what it left out."""
    found = task.describe()
    for line in (found["summary"], *found["notes"]):
        logger.info(f"data: {line}")
