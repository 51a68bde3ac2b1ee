"""What a compressed model learns from: the embeddings of the dense model, or of the teacher that the dense one had."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from compression.recipe import PruneConfig, QuantizeConfig
from training.data.batches import Targets
from training.data.faces import FaceData
from training.fit import History
from training.job import Job
from training.recipe import LossConfig
from training.teacher import model_targets
from training.train import CENTRES, MODEL, external_targets, learn, views_source


def recover(
    job: Job,
    model: Any,
    data: FaceData,
    config: PruneConfig | QuantizeConfig,
    source: Path | None,
    *,
    keras: Any,
    title: str,
) -> tuple[NDArray[np.float32] | None, History]:
    """Trains a compressed model in place on what the configuration says.

    Args:
        source: the folder of results whose class centres, if it has any, the classifier starts from; `None` draws
            them anew.
        keras: the module that the model belongs to, `keras` or `tf_keras`.

    Returns:
        The class centres (`None` without a classifier) and the history.

    Raises:
        ValueError: the external teacher is asked for, but none is configured.
    """
    targets = _targets(job, data, config.loss, config.teacher)
    centres = None
    if source is not None and (source / CENTRES).is_file():
        centres = np.load(source / CENTRES)["kernel"]
    return learn(job, model, data, config.fit, config.loss, targets, keras=keras, title=title, centres=centres)


def _targets(job: Job, data: FaceData, loss: LossConfig, teacher: str) -> Targets | None:
    """The embeddings that the training images should have, or `None` if the loss distils nothing."""
    if loss.distillation_weight <= 0:
        return None
    if teacher == "external":
        targets = external_targets(job, data)
        if targets is None:
            raise ValueError("teacher is external, but train.teacher.path names none: give it, or take teacher=dense")
        return targets
    path = job.inputs["train"] / MODEL
    teacher_config = replace(job.config.train.teacher, flip=False)
    source = f"{teacher_config.views} {views_source(job)}"
    digest = hashlib.sha256(path.read_bytes() + source.encode()).hexdigest()[:16]
    file = job.cache / f"targets-{digest}.npy"
    return model_targets(load_keras(path), teacher_config, data.train.images, file)


def load_keras(path: Path) -> Any:
    """Reads a Keras 3 model that an earlier stage wrote."""
    return keras.saving.load_model(path, compile=False)
