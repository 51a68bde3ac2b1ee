"""The sensitivity stage: how much each group of channels matters, before any is pruned."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from functools import partial

import keras
from omegaconf import OmegaConf

from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.samples import Samples
from slimcam.compression.pruning.sensitivity import sensitivity
from slimcam.deploy.common.files import atomic, write_text
from slimcam.pipeline.report import plots
from slimcam.pipeline.stages.artifacts import RATIOS, SENSITIVITY, SENSITIVITY_PLOT
from slimcam.training.fit.files import MODEL, load_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import input_size, task_of

logger = logging.getLogger(__name__)

_BATCH = 32


def run(job: Job) -> None:
    """Writes `sensitivity.json`, `sensitivity.png`, and `ratios.yaml`: ratios that lose alike, for the prune section.

    Evaluated by accuracy on held-out data where there are any, else by fidelity to the dense model.
    """
    config = job.config.prune
    task = task_of(job)
    keras.utils.set_random_seed(job.config.train.seed)
    model = normalize(load_keras(job.inputs["train"] / MODEL)).model
    labeled, loss = task.labeled(config.criterion_images, _BATCH)
    inputs = partial(task.samples, config.criterion_images, input_size(model), _BATCH)
    found = sensitivity(model, config, Samples(inputs, labeled, loss), task.validator())
    logger.info("%s", found)
    suggested = found.suggested(config.ratio)
    write_text(job.out / SENSITIVITY, json.dumps({**asdict(found), "suggested": suggested}, indent=2))
    text = OmegaConf.to_yaml(OmegaConf.create({"prune": {"ratios": suggested}}))
    write_text(
        job.out / RATIOS, f"# Remove {config.ratio:.0%} of the channels in scope, each group at the same loss.\n{text}"
    )
    with atomic(job.out / SENSITIVITY_PLOT) as partial_file:
        partial_file.write_bytes(plots.png(plots.sensitivity(found, suggested, plots.LIGHT)))
    logger.info(f"ratios that remove {config.ratio:.0%} at equal loss of each group are in {RATIOS}")
