"""What a model is for: the one seam between the stages, which know models, and the tasks, which know faces.

A task knows its data, its network, its loss and its metric. The stages prune, quantise, convert and judge whatever it
hands them: a Keras model with one image in and one array out.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deploy.common.choices import Choice
from training.fit.config import FitConfig
from training.fit.fit import History
from training.tasks.job import Job

TASKS = {
    "recognition": "training.tasks.recognition.task:Recognition",
    "detection": "training.tasks.detection.task:Detection",
}

Float = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width of a model's input, in pixels."""


class Teacher(Choice):
    """Who is imitated: the model before pruning, or that of `train.teacher`."""

    DENSE = "dense"
    EXTERNAL = "external"


@dataclass(frozen=True)
class Lessons:
    """What one stage learns from: the common part of the train, prune and quantize sections.

    Attributes:
        loss: of the task's own kind.
        teacher: whom the loss imitates, where it imitates anybody: `external` (that of the train section) or `dense`
            (the model before pruning).
        source: the folder of results that the training goes on from; `None` starts anew.
        keras: the module that the model belongs to, `keras` or `tf_keras`.
        title: of the progress lines.
    """

    fit: FitConfig
    loss: Any
    teacher: Teacher
    source: Path | None
    keras: Any
    title: str


@dataclass(frozen=True)
class Listing:
    """A table of figures, a row for each model.

    Attributes:
        columns: the heading of each column and what its cells are: `percent` (a share), `interval` (a change, see
            `Judgement.changes`), `milliseconds` or `number`; a cell that is not known is `None`.
        rows: the cells, by model.
        notes: what to know of it, one sentence each.
    """

    title: str
    columns: list[tuple[str, str]]
    rows: dict[str, list[Any]]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Curves:
    """A line for each model.

    Attributes:
        lines: by model, `x`, `y` and the `label`.
        x, y: what the axes show, the first on a logarithmic scale; the second is a share, the first too if
            `x_is_share`.
        lowest: of the first axis, left of which there is too little to count.
        alt: what the plot shows, for those who cannot see it.
    """

    title: str
    caption: str
    alt: str
    x: str
    y: str
    x_is_share: bool
    lowest: float
    lines: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Judgement:
    """How the models of a run do their task.

    Attributes:
        accuracies: by model, the share of what was asked that it answered right.
        changes: of the accuracies against the dense model's, by model: `difference`, and `low` and `high` of its 95 %
            interval.
        thresholds: of the compressed model, for its bundle.
        figures: of the compressed model, for its bundle.
        facts: sentences for its card.
        tables, curves: for the report.
    """

    accuracies: dict[str, float]
    changes: dict[str, dict[str, float]]
    thresholds: dict[str, float]
    figures: dict[str, Any]
    facts: list[str]
    tables: list[Listing]
    curves: Curves


class Task(ABC):
    """A task under one configuration.

    Attributes:
        name: as in `TASKS` and in bundles.
        measure: what `Judgement.accuracies` are, in a word or two.
        purpose: what a model of this task does, one sentence for its card.
        limits: what to know before it is used, for its card and the report.
    """

    name: ClassVar[str]
    measure: ClassVar[str]
    purpose: ClassVar[str]
    limits: ClassVar[Sequence[str]]

    def __init__(self, job: Job) -> None:
        self.job = job

    # Data

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the data source gave and what it left out: its `kind`, a `summary` and `notes`."""

    @abstractmethod
    def samples(self, count: int, size: Size, batch_size: int) -> Iterator[Float]:
        """Training images unchanged, normalised, `(<= batch_size, height, width, 3)`: `count` of them, or all."""

    @abstractmethod
    def test_images(self, count: int, size: Size) -> Pixels:
        """Images that nothing was trained on, `(count, height, width, 3)`."""

    @abstractmethod
    def golden_images(self, size: Size) -> Pixels:
        """Drawn images, `(K, height, width, 3)`: a bundle holds nobody's photograph."""

    # Training

    @abstractmethod
    def build(self) -> Any:
        """The dense Keras 3 model."""

    @abstractmethod
    def learn(self, model: Any, lessons: Lessons, place: Job) -> History:
        """Trains a model in place; what later stages learn from beside the model goes to `place.out`.

        Raises:
            ValueError: the lessons ask for what the configuration does not give.
        """

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """What the models were made of beside a network: `data`, `teacher` and the `taught_stages`."""

    # Results

    @abstractmethod
    def judge(self, folders: Mapping[str, Path]) -> Judgement:
        """Judges the models of some bundles, `dense` among them and the compressed one last, by the same data."""


def input_size(model: Any) -> Size:
    """The height and width that a model takes."""
    height, width = model.inputs[0].shape[1:3]
    return int(height), int(width)


def task_of(job: Job) -> Task:
    """The task of a job: the one that its data are for.

    Raises:
        ValueError: a section of the configuration belongs to another task.
    """
    module, name = TASKS[job.config.data.task].split(":")
    task: Task = getattr(importlib.import_module(module), name)(job)
    return task
