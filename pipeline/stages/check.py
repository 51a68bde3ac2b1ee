"""The check stage: whether the model can be pruned, quantized and delegated, before it is trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.check import preflight
from slimcam.compression.export.restore import restore_weights
from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.config import Allocation, Criterion, Target
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.pruned import choose
from slimcam.compression.pruning.surgery import cut
from slimcam.compression.quantization.schemes import Scheme
from slimcam.deploy.common.files import write_text
from slimcam.pipeline.stages.artifacts import CHECK
from slimcam.pipeline.stages.config import Method, PruneConfig
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
    if pruning.converted is not None:
        try_weights(model, pruning, pruning.all_converted, task.samples(1, input_size(model), 1))
    write_text(job.out / CHECK, json.dumps({**asdict(found), "changes": list(map(str, found.changes))}, indent=2))


def try_weights(
    model: Any, pruning: PruneConfig, files: Sequence[Path], batches: Iterable[NDArray[np.float32]]
) -> None:
    """Gives a cut model the weights that fine-tuning is to go on from, where its widths are known before training.

    Raises:
        CompressionError: They do not fit.
    """
    if pruning.allocation != Allocation.UNIFORM or pruning.target == Target.LATENCY:
        return
    model = normalize(model).model
    graph = trace(model)
    if pruning.plan is not None:
        plan = PruningPlan.load(Path(pruning.plan))
    else:
        plan = choose(model, graph, replace(pruning, criterion=Criterion.L1.value), None, None)
    restore_weights(cut(model, plan, graph), [file.read_bytes() for file in files], batches)
