"""The prune stage: choose channels, cut them out, fine-tune the smaller model; in one step or several."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import keras

from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.importance import importance
from slimcam.compression.pruning.plan import PruningPlan, keep_best, plan, width_schedule
from slimcam.compression.pruning.rescale import rescale_kernels
from slimcam.compression.pruning.surgery import cut
from slimcam.deploy.common.files import write_text
from slimcam.pipeline.stages.artifacts import COST, PLAN, write_history
from slimcam.pipeline.stages.config import Weights
from slimcam.pipeline.stages.layers import write_widths
from slimcam.pipeline.stages.substeps import continued, keep_events, restart_events, substeps
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.files import MODEL, load_keras, save_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Task, TrainingSpec, input_size, task_of

_BATCH = 64
logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes `model.keras`, `plan.json`, `cost.json` (before and after), `history.jsonl`.

    Each step before the last leaves the same in a folder of its own under `job.work`, from which a killed stage goes
    on. Its plan and its history, too, start at the dense model.
    """
    config = job.config.prune
    task = task_of(job)
    dense = normalize(load_keras(job.inputs["train"] / MODEL)).model
    graph = trace(dense)
    target = plan(graph, importance(dense, graph, config.criterion), config)
    logger.info("%s", target)
    costs = {"dense": cost(dense), "pruned": cost(cut(dense, target))}
    write_text(job.out / COST, json.dumps({name: asdict(found) for name, found in costs.items()}, indent=2))
    for name, found in costs.items():
        logger.info(f"{name}: {found.parameters:,} parameters, {found.macs:,} MACs")
    if costs["dense"].remark:
        logger.warning(costs["dense"].remark)
    steps = substeps(job, "cut", config.steps)
    source = job.inputs["train"]
    widths = width_schedule(target, config.steps, config.round_to)
    for step, counts, fit in zip(steps, widths, config.fine_tuning, strict=True):
        if not (step.out / MODEL).is_file():
            _take_step(step, source, counts, fit, task)
        source = step.out
    keep_events(job, steps)


def _take_step(job: Job, source: Path, counts: Mapping[str, int], fit: FitConfig, task: Task) -> None:
    """Cuts the model of a result folder down to so many channels of each group, fine-tunes it, and writes it last."""
    config = job.config.prune
    restart_events(job)
    keras.utils.set_random_seed(job.config.train.seed)
    model = normalize(load_keras(source / MODEL)).model
    chosen = keep_best(importance(model, trace(model), config.criterion), counts)
    model = cut(model, chosen)
    reinitialized = config.weights == Weights.RANDOM
    if reinitialized:
        model = keras.models.clone_model(model)
    else:
        rescale_kernels(model)
    statistics = partial(task.samples, config.bn_images, input_size(model), _BATCH)
    recalibrate_batch_norm(model, statistics())
    title = "fine-tuning" if config.steps == 1 else f"fine-tuning {job.work.name}"
    spec = TrainingSpec(fit, config.loss, config.teacher, None if reinitialized else source, keras, title)
    history = task.learn(model, spec, job)
    recalibrate_batch_norm(model, statistics())
    if (source / PLAN).is_file():  # the source is pruned itself
        chosen = PruningPlan.load(source / PLAN).then(chosen)
        history = continued(source, history)
    chosen.save(job.out / PLAN)
    write_history(job.out, history)
    write_widths(job.out, chosen, model, int(history[-1]["step"]))
    save_keras(model, job.out / MODEL)
