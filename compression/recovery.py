"""What a compressed model learns from: the embeddings of the dense model, or of the teacher that the dense one had."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from compression.recipe import PruneConfig, QuantizeConfig
from training.data.faces import FaceData
from training.data.load import fingerprint
from training.fit import History
from training.job import Job
from training.recipe import LossConfig
from training.teacher import model_targets
from training.train import CENTRES, MODEL, external_targets, learn


def recover(
    job: Job, model: Any, data: FaceData, config: PruneConfig | QuantizeConfig, source: str, *, keras: Any, title: str
) -> tuple[NDArray[np.float32] | None, History]:
    """Trains a compressed model in place on what the configuration says.

    Args:
        source: the stage whose class centres, if it has any, the classifier starts from.
        keras: the module that the model belongs to, `keras` or `tf_keras`.

    Returns:
        The class centres (`None` without a classifier) and the history.

    Raises:
        ValueError: the external teacher is asked for, but none is configured.
    """
    targets = _targets(job, data, config.loss, config.teacher)
    path = job.inputs[source] / CENTRES
    centres = np.load(path)["kernel"] if path.is_file() else None
    return learn(job, model, data, config.fit, config.loss, targets, keras=keras, title=title, centres=centres)


def _targets(job: Job, data: FaceData, loss: LossConfig, teacher: str) -> NDArray[np.float32] | None:
    """The embedding that each training image should have, `(N, E)`, or `None` if the loss distils nothing."""
    if loss.distillation_weight <= 0:
        return None
    if teacher == "external":
        targets = external_targets(job, data)
        if targets is None:
            raise ValueError("teacher is external, but train.teacher.path names none: give it, or take teacher=dense")
        return targets
    path = job.inputs["train"] / MODEL
    digest = hashlib.sha256(path.read_bytes() + fingerprint(job.config.data).encode()).hexdigest()[:16]
    return model_targets(load_keras(path), data.train.images, job.cache / f"targets-{digest}.npy")


def load_keras(path: Any) -> Any:
    """Reads a Keras 3 model that an earlier stage wrote."""
    return keras.saving.load_model(path, compile=False)
