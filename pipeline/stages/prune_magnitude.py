"""The prune stage by magnitude: single weights become zero while the dense model trains on, in tf_keras with tfmot."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from typing import Any

import keras
import tf_keras

from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.magnitude import pruning_callbacks, sparsity_aware, strip, zeros
from slimcam.compression.pruning.plan import PruningPlan, Whole
from slimcam.compression.quantization.keras2 import adopt_weights, to_tf_keras
from slimcam.deploy.common.files import write_text
from slimcam.pipeline.stages.artifacts import COST, PLAN, ZEROS, write_history
from slimcam.pipeline.stages.substeps import restart_events
from slimcam.training.fit.files import EVENTS, MODEL, load_keras, save_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import TrainingSpec, input_size, task_of

logger = logging.getLogger(__name__)

_BATCH = 64


def run(job: Job) -> None:
    """Writes `model.keras`, `zeros.json`, `history.jsonl`, and what the other method writes: `plan.json`, in which all
    channels stay, and `cost.json`, the same before and after.

    Raises:
        ValueError: the model has no kernel to prune, or none for the pattern that is asked for; or a layer of it has
            no counterpart in tf_keras.
    """
    config = job.config.prune
    restart_events(job)
    keras.utils.set_random_seed(job.config.train.seed)
    task = task_of(job)
    source = job.inputs["train"]
    model = normalize(load_keras(source / MODEL)).model
    learner = sparsity_aware(to_tf_keras(model), config.ratio, config.magnitude, keep=config.keep, ratios=config.ratios)
    if config.fit.validations:
        logger.info(
            "the weights are those of the last step, not the best that are validated: earlier ones have fewer zeros"
        )
    spec = TrainingSpec(
        replace(config.fit, validations=0, patience=0),
        config.loss,
        config.teacher,
        source,
        tf_keras,
        "fine-tuning",
        callbacks=pruning_callbacks(job.out / EVENTS),
    )
    history = task.learn(learner, spec, job)
    adopt_weights(model, strip(learner))
    if config.bn_images:
        recalibrate_batch_norm(model, task.samples(config.bn_images, input_size(model), _BATCH))
    _tell(job, model)
    write_history(job.out, history)
    save_keras(model, job.out / MODEL)


def _tell(job: Job, model: Any) -> None:
    """Writes and logs the zeros of each kernel; and the plan and the cost, of which nothing changes."""
    found = zeros(model)
    for name, (zero, size) in found.items():
        logger.info(f"{name}: {zero:,} of {size:,} weights are zero ({zero / size:.1%})")
    zero, size = (sum(counts) for counts in zip(*found.values(), strict=True))
    logger.info(f"all kernels: {zero:,} of {size:,} weights are zero ({zero / size:.1%})")
    write_text(job.out / ZEROS, json.dumps(found))
    groups = {group.name: group for group in trace(model).groups if group.frozen != "model input"}
    whole = {name: Whole(group.size, "single weights are pruned") for name, group in groups.items()}
    PruningPlan({}, {}, whole).save(job.out / PLAN)
    write_text(job.out / COST, json.dumps(dict.fromkeys(("dense", "pruned"), asdict(cost(model))), indent=2))
