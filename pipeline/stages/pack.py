"""The pack stage: what a training needs of faces and teacher, as files for a machine that has neither."""

from __future__ import annotations

import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from slimcam.pipeline.stages.train import announce
from slimcam.training.data.recognition import packed
from slimcam.training.data.recognition.faces import FaceData
from slimcam.training.data.recognition.teacher_targets import TargetSource
from slimcam.training.data.sources import fingerprint, material
from slimcam.training.fit.progress import Progress
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition.task import Recognition, external_targets, training_batches, views_source
from slimcam.training.tasks.recognition.teacher import targets_files

FACES = "faces.npz"

_BATCH = 64


def run(job: Job) -> None:
    """Writes `faces.npz` and, where a teacher is configured, all that it says under the names of the cache.

    As `paths.cache` the folder then serves a training without the teacher's runtime.
    """
    config = job.config
    task = Recognition(job)
    announce(task)
    data = task.data
    packed.write(job.out / FACES, data, material(config.data), fingerprint(config.data))
    if config.train.teacher.path is not None:
        targets = external_targets(job, data)
        _see_every_view(job, data, targets)
        for kept in targets_files(config.train.teacher, views_source(job), job.cache, config.model.embedding_size):
            shutil.copyfile(kept, job.out / kept.name)


def _see_every_view(job: Job, data: FaceData, targets: TargetSource) -> None:
    """Shows the teacher all the views that a training may ask for."""
    batches = training_batches(job, data, job.config.train.fit, targets)
    count = len(data.train)
    progress = Progress(targets.views * count, "views for the teacher", unit="images")

    def show(places: NDArray[np.int64]) -> int:
        variants, indices = np.divmod(places, count)
        targets(indices, variants, batches.views(indices, variants))
        return len(places)

    parts = np.array_split(np.arange(targets.views * count), math.ceil(targets.views * count / _BATCH) or 1)
    with ThreadPoolExecutor() as pool:
        for done in pool.map(show, parts):
            progress.advance(done)
    progress.close()
