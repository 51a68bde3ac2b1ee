"""What a compressed model learns from: the embeddings of the dense model, or of the teacher that the dense one had."""

from __future__ import annotations

import hashlib
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.data.faces import FaceData
from training.data.load import fingerprint
from training.job import Job
from training.recipe import LossConfig
from training.teacher import model_targets
from training.train import MODEL, external_targets


def recovery_targets(job: Job, data: FaceData, loss: LossConfig, teacher: str) -> NDArray[np.float32] | None:
    """The embedding that each training image should have, `(N, E)`, or `None` if the loss distils nothing.

    Raises:
        ValueError: the external teacher is asked for, but none is configured.
    """
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
