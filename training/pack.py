"""The pack stage: what a training needs of faces and teacher, as files for a machine that has neither."""

from __future__ import annotations

import math
import shutil

from training.data import packed
from training.data.batches import Batches, Targets
from training.data.faces import IMAGE_SIZE, FaceData
from training.data.load import fingerprint, load, source
from training.job import Job
from training.progress import Progress
from training.teacher import targets_file
from training.train import announce, external_targets, views_source

FACES = "faces.npz"

_BATCH = 64


def run(job: Job) -> None:
    """Writes `faces.npz` and, where a teacher is configured, the whole table of its embeddings under its cache name.

    As `paths.cache` the folder then serves a training without the teacher's runtime.
    """
    config = job.config
    data = load(config.data, job.cache)
    announce(data)
    # Where the faces lie on this machine is nothing to the other.
    options = {name: value for name, value in source(config.data).items() if name != "root"}
    packed.write(job.out / FACES, data, options, fingerprint(config.data))
    targets = external_targets(job, data)
    if targets is not None:
        _see_every_view(job, data, targets)
        kept = targets_file(config.train.teacher, views_source(job), job.cache)
        shutil.copyfile(kept, job.out / kept.name)


def _see_every_view(job: Job, data: FaceData, targets: Targets) -> None:
    """Shows the teacher all the views that a training will ask for: those of its first epochs, one for each view."""
    train = job.config.train
    count = targets.views * len(data.train)
    batches = Batches(data.train, _BATCH, train.augment, train.seed, targets, train.workers)
    progress = Progress(count, "views for the teacher", unit="images")
    for _ in batches.stream([IMAGE_SIZE] * math.ceil(count / _BATCH)):
        progress.advance(_BATCH)
    progress.close()
