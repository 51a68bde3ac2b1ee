"""Which channels of a model go, as the prune section says, and what that saves."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from slimcam.compression.pruning.config import Target
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.graph import trace
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.pruned import choose, saved
from slimcam.compression.pruning.samples import Samples
from slimcam.compression.pruning.surgery import cut
from slimcam.deploy.common.files import atomic, write_text
from slimcam.pipeline.report import plots
from slimcam.pipeline.stages.artifacts import COST, PLAN, PLAN_PLOT
from slimcam.training.tasks.job import Job

logger = logging.getLogger(__name__)


def chosen_plan(job: Job, model: Any, samples: Samples | None, seed: int) -> PruningPlan:
    """The plan that the configuration asks for; a killed stage goes on with the one it had.

    Args:
        job: of the stage; the plan is kept in its scratch folder.
        model: in normal form.
        samples: what the criterion may look at beside the weights.
        seed: of the criterion `random`.

    Raises:
        ValueError: the configuration or the plan file does not serve for this model.
    """
    config, kept = job.config.prune, job.work / PLAN
    if kept.is_file():
        return PruningPlan.load(kept)
    graph = trace(model)
    if config.plan is not None:
        found = PruningPlan.load(Path(config.plan))
        found.validate(graph)
    else:
        keras.utils.set_random_seed(seed)
        milliseconds = None
        if config.target == Target.LATENCY:
            # Imported late: it brings TensorFlow, whatever Keras' backend is.
            from slimcam.pipeline.stages.latency import latency

            milliseconds = latency(model, graph, job.config.benchmark, job.work / "latency")
        found = choose(model, graph, config, samples, milliseconds)
        if milliseconds is not None:
            logger.info(f"latency: {milliseconds.of(found):.3g} ms, unpruned and float32 {milliseconds.whole:.3g} ms")
    kept.parent.mkdir(parents=True, exist_ok=True)
    found.save(kept)
    return found


def tell(job: Job, model: Any, plan: PruningPlan) -> None:
    """Writes `cost.json` (before and after) and `plan.png`, and logs the plan as a table and what it saves."""
    logger.info("%s", plan)
    costs = {"dense": cost(model), "pruned": cost(cut(model, plan))}
    write_text(job.out / COST, json.dumps({name: asdict(found) for name, found in costs.items()}, indent=2))
    logger.info(saved(costs["dense"], costs["pruned"]))
    if costs["dense"].remark:
        logger.warning(costs["dense"].remark)
    with atomic(job.out / PLAN_PLOT) as partial:
        partial.write_bytes(plots.png(plots.channels(plan.kept, plan.sizes, plots.LIGHT)))
