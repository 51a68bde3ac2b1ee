"""The train stage: a dense model from a configuration."""

from __future__ import annotations

import json

from deploy.common.files import write_text
from pipeline.stages.artifacts import DATA, write_history
from training.fit.files import MODEL, save_keras
from training.tasks.job import Job
from training.tasks.task import Lessons, Task, task_of


def run(job: Job) -> None:
    """Writes `model.keras`, `history.jsonl`, `data.json`, and what the task leaves for the stages after it."""
    import keras

    train = job.config.train
    task = task_of(job)
    announce(task)
    write_text(job.out / DATA, json.dumps(task.describe(), indent=2))
    keras.utils.set_random_seed(train.seed)
    model = task.build()
    lessons = Lessons(train.fit, train.loss, "external", None, keras, "train")
    history = task.learn(model, lessons, job)
    save_keras(model, job.out / MODEL)
    write_history(job.out, history)


def announce(task: Task) -> None:
    """Prints what the data source gave and what it left out."""
    found = task.describe()
    for line in (found["summary"], *found["notes"]):
        print(f"data: {line}", flush=True)
