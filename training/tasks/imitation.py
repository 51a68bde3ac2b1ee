"""Trainings of models with one output that imitate at most their own dense model: detectors and classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slimcam.training.fit.checkpoint import History
from slimcam.training.fit.files import EVENTS, MODEL, load_keras
from slimcam.training.fit.fit import Objective, fit
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Task, Teacher, TrainingSpec


def learn(
    task: Task, model: Any, spec: TrainingSpec, job: Job, batches: Any, objective: Callable[[Any, Any], Objective]
) -> History:
    """Trains a model in place.

    Args:
        batches: What it is trained on, as for `fit`.
        objective: From the loss and the dense model, `None` where nobody is imitated, to what is learned by.

    Raises:
        ValueError: Another model than the dense one is to be imitated.
    """
    dense = None
    if spec.loss.distillation_weight > 0:
        if spec.teacher != Teacher.DENSE:
            raise ValueError(f"{task.name}: a model imitates nobody but its dense model: set teacher=dense")
        dense = load_keras(task.job.inputs["train"] / MODEL)
    # The same layers in a model of its own: a compiled model would be saved with its optimizer.
    learner = spec.keras.Model(model.inputs, model.outputs[0], name=f"{model.name}_learner")
    return fit(
        learner,
        batches,
        spec.fit,
        objective(spec.loss, dense),
        job.work,
        keras=spec.keras,
        title=spec.title,
        events=job.out / EVENTS,
        validate=task.validator(),
        recalibrate=spec.recalibrate,
        rates=spec.rates,
        callbacks=spec.callbacks,
        begin=spec.begin,
    )


def taught_stages(job: Job) -> list[str]:
    """The stages in which the dense model is imitated."""
    sections = {name: getattr(job.config, name) for name in ("prune", "quantize")}
    return [name for name, section in sections.items() if section.loss.distillation_weight > 0]
