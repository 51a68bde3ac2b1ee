"""The train stage: a dense recognizer from a configuration."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.batches import Batches, Targets
from training.data.faces import FaceData
from training.data.load import fingerprint, load
from training.files import save_arrays, save_keras, write_text
from training.fit import History, fit
from training.job import Job
from training.models import COSINES, build, with_classifier, with_features
from training.recipe import FitConfig, LossConfig
from training.teacher import teacher_targets

MODEL = "model.keras"
CENTRES = "centres.npz"
HISTORY = "history.jsonl"
DATA = "data.json"
EVENTS = "tensorboard"


def run(job: Job) -> None:
    """Trains the dense model: `model.keras`, `centres.npz` (of the identities), `history.jsonl` and `data.json`."""
    import keras

    config = job.config
    data = load(config.data, job.cache)
    announce(data)
    write_text(job.out / DATA, json.dumps(describe(config.data.kind, data), indent=2))
    keras.utils.set_random_seed(config.train.seed)
    model = build(config.model)
    targets = external_targets(job, data) if config.train.loss.distillation_weight > 0 else None
    centres, history = learn(job, model, data, config.train.fit, config.train.loss, targets, keras=keras, title="train")
    save_keras(model, job.out / MODEL)
    if centres is not None:
        save_arrays(job.out / CENTRES, kernel=centres)
    write_history(job.out, history)


def learn(
    job: Job,
    model: Any,
    data: FaceData,
    fit_config: FitConfig,
    loss: LossConfig,
    targets: Targets | None,
    *,
    keras: Any,
    title: str,
    centres: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32] | None, History]:
    """Fits an embedding model in place, with a classifier beside it where the loss asks for one.

    Args:
        keras: the module that the model belongs to, `keras` or `tf_keras`.
        centres: `(E, identities)` that the classifier starts from.

    Returns:
        The centres after training (`None` without a classifier) and the history.
    """
    if loss.classifies:
        learner = with_classifier(model, len(data.train.identities), centres, keras=keras)
    else:
        # The same layers in a model of its own: a compiled model would be saved with its optimizer.
        learner = keras.Model(model.inputs, model.outputs[0], name=f"{model.name}_learner")
    if loss.features_weight:
        assert targets is not None  # the configuration sees to it
        learner = with_features(learner, loss.features_layer, targets.channels, keras=keras)
    history = fit(
        learner,
        training_batches(job, data, fit_config, targets),
        fit_config,
        loss,
        job.work,
        keras=keras,
        title=title,
        events=job.out / EVENTS,
        held_out=data.held_out,
    )
    trained = learner.get_layer(COSINES).get_weights()[0] if loss.classifies else None
    return trained, history


def training_batches(job: Job, data: FaceData, fit_config: FitConfig, targets: Targets | None) -> Batches:
    """The batches of a fit, augmented as the train section says."""
    train = job.config.train
    return Batches(
        data.train, fit_config.batch_size, train.augment, train.seed, targets, train.workers, balance=train.balance
    )


def external_targets(job: Job, data: FaceData) -> Targets | None:
    """Embeddings of the configured teacher for the training images, or `None` without one."""
    config = job.config
    if config.train.teacher.path is None:
        return None
    teacher, size = config.train.teacher, config.model.embedding_size
    return teacher_targets(teacher, data.train.images, views_source(job), job.cache, size)


def views_source(job: Job) -> str:
    """What the images that a teacher sees are made of: the data, and for augmented views how they are drawn."""
    train = job.config.train
    drawn = (
        json.dumps([asdict(train.augment), train.seed, train.balance], sort_keys=True) if train.teacher.views else ""
    )
    return fingerprint(job.config.data) + drawn


def describe(kind: str, data: FaceData) -> dict[str, Any]:
    """What the data source gave and what it left out, in numbers and notes."""
    return {
        "kind": kind,
        "train_images": len(data.train),
        "train_people": len(data.train.identities),
        "test_images": len(data.test),
        "test_people": len(data.test.identities),
        "pairs": len(data.pairs),
        "notes": list(data.notes),
    }


def announce(data: FaceData) -> None:
    """Prints what the data source gave and what it skipped."""
    people = len(data.train.identities)
    print(f"data: {len(data.train)} images of {people} people; {len(data.pairs)} verification pairs", flush=True)
    for note in data.notes:
        print(f"data: {note}", flush=True)


def write_history(folder: Path, history: History) -> None:
    """Writes `history.jsonl`, one entry a line."""
    write_text(folder / HISTORY, "".join(json.dumps(entry) + "\n" for entry in history))
