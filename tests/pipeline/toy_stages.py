"""Stage functions small enough to watch: what they write tells what they saw."""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import dataclass, field

from slimcam.deploy.common.result_key import NOT_KEY
from slimcam.training.tasks.job import Job


@dataclass
class Section:
    """A section with an option that is no part of keys."""

    value: int = 3
    workers: int = field(default=1, metadata=NOT_KEY)


def write(job: Job) -> None:
    said = [folder.joinpath("result.txt").read_text() for folder in job.inputs.values()]
    (job.out / "result.txt").write_text(" ".join([*said, *(str(value) for value in vars(job.config).values())]))


def stamp(job: Job) -> None:
    (job.out / "result.txt").write_text(str(time.time_ns()))


def full(job: Job) -> None:
    """Fails as on a full disk: nothing more can be written, the log of the failure included."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (job.out / "result.txt").write_text("too much")


def backend(job: Job) -> None:
    import keras

    (job.out / "result.txt").write_text(keras.backend.backend())


def onednn(job: Job) -> None:
    (job.out / "result.txt").write_text(os.environ["TF_ENABLE_ONEDNN_OPTS"])


def fail(job: Job) -> None:
    (job.out / "half.txt").write_text("half")
    raise ValueError("no faces in\nthe folder; give another")


def bug(job: Job) -> None:
    raise KeyError(job.out.name)


def die(job: Job) -> None:
    (job.work / "checkpoint").write_text("1")
    os.kill(os.getpid(), signal.SIGKILL)


def count(job: Job) -> None:
    """Counts to 40 in 20 steps a second, and knows after a kill how far it was."""
    (job.work / "pid").write_text(str(os.getpid()))
    checkpoint = job.work / "checkpoint"
    start = int(checkpoint.read_text()) if checkpoint.exists() else 0
    for step in range(start, 40):
        time.sleep(0.05)
        checkpoint.with_suffix(".new").write_text(str(step + 1))
        checkpoint.with_suffix(".new").replace(checkpoint)
    (job.out / "result.txt").write_text(f"from {start}")
