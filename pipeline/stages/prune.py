"""The prune stage: choose channels, cut them out, fine-tune the smaller model; in one step or several."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.batch_norm import recalibrate_batch_norm
from slimcam.compression.pruning.config import Schedule
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.pruned import scores
from slimcam.compression.pruning.reconstruct import reconstruct
from slimcam.compression.pruning.rescale import rescale_kernels
from slimcam.compression.pruning.samples import Samples
from slimcam.compression.pruning.schedule import width_schedule
from slimcam.compression.pruning.selection import blocks_of, keep_best
from slimcam.compression.pruning.sparsity import penalized
from slimcam.compression.pruning.surgery import cut
from slimcam.pipeline.stages.artifacts import PLAN, write_history
from slimcam.pipeline.stages.chosen_plan import chosen_plan, tell
from slimcam.pipeline.stages.config import PruneConfig, Weights
from slimcam.pipeline.stages.layers import write_widths
from slimcam.pipeline.stages.substeps import continued, keep_events, restart_events, substeps
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.files import MODEL, load_keras, save_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Size, Task, TrainingSpec, input_size, task_of

logger = logging.getLogger(__name__)

_BATCH, _CRITERION_BATCH = 64, 16
VALIDATION_IMAGES = 512
"""Images, at the most, by which the statistics of normalization are recalibrated for a validation."""


def run(job: Job) -> None:
    """Writes `model.keras`, `plan.json`, `plan.png`, `cost.json` (before and after), `history.jsonl`.

    Each step before the last leaves the same in a folder of its own under `job.work`, from which a killed stage goes
    on. Its plan and its history, too, start at the dense model.
    """
    config = job.config.prune
    task = task_of(job)
    cuts = substeps(job, "cut", config.steps)
    source, before = job.inputs["train"], []
    if config.sparse.taken:
        before = [replace(job, work=job.work / "sparse", out=job.work / "sparse" / "out")]
        source = _train_sparse(before[0], task)
    dense = normalize(load_keras(source / MODEL)).model
    samples = _samples(config, task, input_size(dense))
    target = chosen_plan(job, dense, samples, job.config.train.seed)
    tell(job, dense, target)
    widths = width_schedule(target, trace(dense), config.steps, config.round_to, Schedule(config.schedule))
    seen = config.sparse.taken
    for step, counts, fit in zip(cuts, widths, config.fine_tuning, strict=True):
        if not (step.out / MODEL).is_file():
            _take_step(step, source, target, counts, fit, task, seen)
        source, seen = step.out, seen + fit.epochs
    keep_events(job, [*before, *cuts])


def _samples(config: PruneConfig, task: Task, size: Size) -> Samples:
    """What criteria may look at: training images as they are, and batches of the train stage with its loss."""
    labeled, loss = task.labeled(config.criterion_images, _CRITERION_BATCH)
    return Samples(partial(task.samples, config.criterion_images, size, _CRITERION_BATCH), labeled, loss)


def _train_sparse(job: Job, task: Task) -> Path:
    """Trains the dense model on with a penalty on its channels; gives the result folder."""
    config, source = job.config.prune, job.inputs["train"]
    if not (job.out / MODEL).is_file():
        restart_events(job)
        keras.utils.set_random_seed(job.config.train.seed)
        model = normalize(load_keras(source / MODEL)).model
        fit = replace(config.fit, epochs=config.sparse.epochs)
        spec = TrainingSpec(fit, config.loss, config.teacher, source, keras, "sparse training")
        with penalized(model, trace(model), config.sparse.penalty, config.sparse.strength):
            history = task.learn(model, spec, job)
        write_history(job.out, history)
        save_keras(model, job.out / MODEL)
    return job.out


def _go_on_from(files: Sequence[Path], model: Any, batches: Iterable[NDArray[np.float32]]) -> None:
    """Gives the model the weights of converted networks, and says which layers have none there."""
    from slimcam.compression.export.restore import restore_weights

    own = restore_weights(model, [file.read_bytes() for file in files], batches)
    kept = f"; those of the dense model stay in {', '.join(own)}" if own else ""
    logger.info(f"{'mean of the ' if len(files) > 1 else ''}weights of {' and '.join(map(str, files))}{kept}")


def _take_step(
    job: Job, source: Path, target: PruningPlan, counts: Mapping[str, int], fit: FitConfig, task: Task, seen: float
) -> None:
    """Cuts the model of a result folder down to so many channels of each group, fine-tunes it, and writes it last.

    The fine-tuning goes on in the data after the `seen` epochs of the steps before.
    """
    config = job.config.prune
    restart_events(job)
    keras.utils.set_random_seed(job.config.train.seed)
    model = normalize(load_keras(source / MODEL)).model
    chosen, graph = target, trace(model)
    if config.steps > 1:
        ranked = scores(model, graph, config, _samples(config, task, input_size(model)))
        chosen = keep_best(ranked, counts, blocks_of(graph), target.whole)
    whole, model = model, cut(model, chosen, graph)
    reinitialized = config.weights == Weights.RANDOM
    if reinitialized:
        model = keras.models.clone_model(model)
    else:
        if config.converted is not None:
            _go_on_from(config.all_converted, model, task.samples(config.bn_images, input_size(model), _BATCH))
        if config.weights == Weights.KEPT and config.reconstruct:
            batches = task.samples(config.criterion_images, input_size(model), _BATCH)
            names = reconstruct(model, whole, chosen, graph, batches)
            logger.info(f"weights of {len(names)} layers by least squares")
        rescale_kernels(model)

    def recalibrate(model: Any, images: int = config.bn_images) -> None:
        recalibrate_batch_norm(model, task.samples(images, input_size(model), _BATCH))

    recalibrate(model)
    title = "fine-tuning" if config.steps == 1 else f"fine-tuning {job.work.name}"
    # Validated as the result will be: training's moving statistics are up to six points of accuracy off.
    quick = partial(recalibrate, images=min(config.bn_images, VALIDATION_IMAGES)) if config.bn_images else None
    spec = TrainingSpec(
        fit, config.loss, config.teacher, None if reinitialized else source, keras, title, quick, begin=seen
    )
    history = task.learn(model, spec, job)
    recalibrate(model)
    if (source / PLAN).is_file():  # the source is pruned itself
        chosen = PruningPlan.load(source / PLAN).then(chosen)
    if source != job.inputs["train"]:
        history = continued(source, history)
    chosen.save(job.out / PLAN)
    write_history(job.out, history)
    write_widths(job.out, chosen, model, int(history[-1]["step"]))
    save_keras(model, job.out / MODEL)
