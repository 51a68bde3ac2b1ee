"""The prune stage of a model file alone: channels are cut out, nothing is trained, no data are read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import keras

from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.surgery import cut
from slimcam.deploy.common.messages import first_line
from slimcam.pipeline.stages.artifacts import PLAN
from slimcam.pipeline.stages.chosen_plan import chosen_plan, tell
from slimcam.pipeline.stages.config import Weights
from slimcam.training.fit.files import MODEL, load_keras, save_keras
from slimcam.training.tasks.job import Job

logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes `model.keras`, `plan.json`, `plan.png`, `cost.json` (before and after).

    Raises:
        ValueError: the file is no model, or one that does not show its graph; or training is asked for.
        FileNotFoundError: there is no such file.
    """
    config = job.config.prune
    if config.steps > 1 or config.weights == Weights.RANDOM or config.sparse.taken:
        raise ValueError("a model file is pruned without training: set prune.steps=1 weights=kept sparse.penalty=none")
    model = normalize(_load(Path(job.config.model.path))).model
    plan = chosen_plan(job, model, None, seed=0)
    tell(job, model, plan)
    plan.save(job.out / PLAN)
    save_keras(cut(model, plan), job.out / MODEL)
    logger.info(f"{MODEL} is not fine-tuned: train it before it is used")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"model.path: no file {path}")
    if not is_zipfile(path):
        raise ValueError(f"model.path: {path} is no .keras file; save the model by model.save('NAME.keras')")
    try:
        model = load_keras(path)
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(
            f"model.path: {path} cannot be read as a Keras 3 model: {first_line(error).partition('. ')[0]}"
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"model.path: {path} holds a {type(model).__name__}, not a Keras model")
    return model
