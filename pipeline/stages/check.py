"""The check stage: whether the model can be pruned, quantized and delegated, before it is trained."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

from slimcam.compression.check import preflight
from slimcam.compression.quantization.schemes import Scheme
from slimcam.deploy.common.files import write_text
from slimcam.pipeline.stages.artifacts import CHECK
from slimcam.pipeline.stages.config import Method
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import input_size, task_of

logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes `check.json`: what `compression.preflight` found of the model with random weights.

    Raises:
        ValueError: something is not supported. All of it is logged, with the names of the layers and what to do.
    """
    import keras

    config, pruning = job.config.quantize, job.config.prune
    keras.utils.set_random_seed(job.config.train.seed)
    task = task_of(job)
    model = task.build()
    spanned = config.spanned(task.input(input_size(model)))
    found = preflight(
        model,
        pruning,
        scheme=Scheme(config.scheme),
        input_range=spanned,
        magnitude=pruning.magnitude if pruning.method == Method.MAGNITUDE else None,
    )
    for line in str(found).splitlines():
        logger.info(line)
    logger.info(f"checked in {found.seconds:.0f} s")
    if found.problems:
        raise ValueError(f"the model cannot be compressed: {'; '.join(found.problems)}")
    write_text(job.out / CHECK, json.dumps({**asdict(found), "changes": list(map(str, found.changes))}, indent=2))
