"""What a model is for: the one seam between the stages, which know models, and the tasks, which know faces.

A task knows its data, its network, its loss and its metric. The stages prune, quantize, convert and evaluate whatever
it hands them: a Keras model with one image in and one array out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.choices import Choice
from slimcam.deploy.common.own_code import code_key, find, of_target
from slimcam.deploy.common.result_key import in_key
from slimcam.deploy.inference.bundle import InputSpec
from slimcam.training.fit.checkpoint import History
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.fit import Loss
from slimcam.training.tasks.job import Job

TASKS = {
    "recognition": "slimcam.training.tasks.recognition.task:Recognition",
    "detection": "slimcam.training.tasks.detection.task:Detection",
    "classification": "slimcam.training.tasks.classification.task:Classification",
}

Float = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Size = tuple[int, int]
"""Height and width of a model's input, in pixels."""


class Teacher(Choice):
    """Who is imitated: the model before pruning, or that of `train.teacher`."""

    DENSE = "dense"
    EXTERNAL = "external"


@dataclass
class TaskConfig:
    """The task, where it is one of your own.

    Attributes:
        _target_: Your subclass of `slimcam.training.tasks.task.Task`, or of one of its subclasses, as
            `package.module.Class`, in the working directory or wherever Python looks. `null` is the task of the data.
            The stages run again when its source, or that of another module of its package, was edited.
    """

    _target_: str | None = field(default=None, metadata=in_key(material=lambda name: name and code_key(name)))

    def __post_init__(self) -> None:
        if self._target_ is not None:
            self._target_ = of_target(self._target_, "task._target_")


@dataclass(frozen=True)
class TrainingSpec:
    """One training: the common part of the train, prune and quantize sections.

    Attributes:
        fit: Optimizer and schedule.
        loss: Loss of the task's own kind.
        teacher: Model that a distillation imitates.
        source: Result folder that the training goes on from; `None` starts from the model's weights alone.
        keras: Module that the model belongs to, `keras` or `tf_keras`.
        title: Begins the lines of progress.
        recalibrate: Sets the statistics of normalization in place, before each validation; `None` keeps training's.
        rates: Factors of the learning rate of single variables, by their `id`.
        callbacks: Callbacks of `keras`, as for `fit`.
        begin: Epochs of the data that earlier trainings of the stage have seen: this one goes on from there.
    """

    fit: FitConfig
    loss: Any
    teacher: str
    source: Path | None
    keras: Any
    title: str
    recalibrate: Callable[[Any], None] | None = None
    rates: Mapping[int, float] = field(default_factory=dict)
    callbacks: Sequence[Any] = ()
    begin: float = 0.0


@dataclass(frozen=True)
class Listing:
    """A table of figures, a row for each model.

    Attributes:
        columns: Heading of each column and what its cells are: `percent` (a share), `estimate` (a `share` and its
            interval, `low` to `high`), `interval` (a change, see `Evaluation.changes`), `milliseconds` or `number`; a
            cell that is not known is `None`.
        rows: Cells of each model.
        notes: What to know of the table, one sentence each.
        subject: Heading of the first column: what the rows are of.
    """

    title: str
    columns: list[tuple[str, str]]
    rows: dict[str, list[Any]]
    notes: list[str] = field(default_factory=list)
    subject: str = "Model"


@dataclass(frozen=True)
class Curves:
    """A line for each model.

    Attributes:
        lines: Values `x` and `y` and the `label` of each model.
        x: What the first axis shows, on a logarithmic scale.
        y: What the second axis shows, a share.
        x_is_share: Whether the first axis shows a share too.
        lowest: Value of the first axis below which there is too little to count.
        alt: What the plot shows, for those who cannot see it.
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
class Evaluation:
    """How well the models of a run do their task.

    Attributes:
        accuracies: Share of correct answers of each model.
        changes: Change of each model's accuracy against the dense model's: `difference`, and `low` and `high` of its
            95 % interval.
        thresholds: Thresholds of the compressed model, for its bundle.
        figures: Figures of the compressed model, for its bundle.
        facts: Sentences for its model card.
        tables: Tables of the report.
        curves: Plot of the report.
        chance: Share of correct answers up to which a model may be guessing (`bootstrap.guessing`), if there is one.
    """

    accuracies: dict[str, float]
    changes: dict[str, dict[str, float]]
    thresholds: dict[str, float]
    figures: dict[str, Any]
    facts: list[str]
    tables: list[Listing]
    curves: Curves
    chance: float | None = None


class Task(ABC):
    """A task under one configuration.

    Attributes:
        name: Name in `TASKS` and in bundles.
        measure: What `Evaluation.accuracies` are, in a word or two.
        purpose: What a model of this task does, one sentence for its card.
        limits: What to know before it is used, for its card and the report.
    """

    name: ClassVar[str]
    measure: ClassVar[str]
    purpose: ClassVar[str]
    limits: ClassVar[Sequence[str]]

    def __init__(self, job: Job) -> None:
        self.job = job

    # Data

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of what a model tells apart, in the order of its outputs; none where it names nothing."""
        return ()

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the data source gave and what it left out: its `kind`, a `summary` and `notes`."""

    @abstractmethod
    def samples(self, count: int, size: Size, batch_size: int) -> Iterator[Float]:
        """Training images unchanged, as the model reads them: `count` or all, `(<= batch_size, height, width, 3)`."""

    @abstractmethod
    def labeled(self, count: int, batch_size: int) -> tuple[Callable[[], Iterator[tuple[Float, Any]]], Loss]:
        """Training batches as the train stage saw them, `count` images in all, and its loss.

        The batches are prepared when they are asked for; each has the truth that the loss takes.
        """

    @abstractmethod
    def test_images(self, count: int, size: Size) -> Pixels:
        """Images that nothing was trained on, `(count, height, width, 3)`."""

    @abstractmethod
    def golden_images(self, size: Size) -> Pixels:
        """Rendered images, `(K, height, width, 3)`: a bundle holds no photograph of a person."""

    # Training

    @abstractmethod
    def build(self) -> Any:
        """The dense Keras 3 model."""

    def input(self, size: Size) -> InputSpec:
        """What the task's models take: images of a size, and what they read of a pixel."""
        return InputSpec(*size)

    @abstractmethod
    def learn(self, model: Any, spec: TrainingSpec, job: Job) -> History:
        """Trains a model in place; what later trainings need beside the model goes to `job.out`.

        Raises:
            ValueError: The training needs what the configuration does not give.
        """

    def validate(self, outputs: Callable[[Pixels], Float], size: Size) -> float | None:  # noqa: ARG002
        """A model's accuracy on images that it is not evaluated on; None for a task that has no such measure.

        Args:
            outputs: From images to what the model gives for them.
            size: Of its input.
        """
        return None

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """What the models were made of beside a network: `data`, `teacher` and the `taught_stages`."""

    # Results

    def validator(self) -> Callable[[Any], float] | None:
        """From a Keras model to its accuracy on data held out of training; `None` where nothing is held out."""
        return None

    @abstractmethod
    def evaluate(self, folders: Mapping[str, Path], *, test_alone: bool = False) -> Evaluation:
        """Evaluates the models of some bundles on the same data, `dense` among them and the compressed one last.

        Args:
            folders: of the bundles, by the models' names.
            test_alone: Leaves out what is evaluated beside the data that gates go by.
        """


def input_size(model: Any) -> Size:
    """The height and width that a model takes."""
    height, width = model.inputs[0].shape[1:3]
    return int(height), int(width)


def task_of(job: Job) -> Task:
    """The task of a job: the one that its data are for.

    Raises:
        ValueError: a section of the configuration belongs to another task.
    """
    own = getattr(job.config, "task", None)
    if own is not None and own._target_ is not None:
        return _own_task(own._target_, job)
    known = TASKS.get(job.config.data.task)
    if known is None:
        raise ValueError(f"data={job.config.data.kind} is of no task; choose another source of data")
    task: Task = find(known)(job)
    return task


def _own_task(name: str, job: Job) -> Task:
    try:
        own = find(name)
    except ValueError as error:
        raise ValueError(f"task._target_ {name}: {error}") from error
    if not (isinstance(own, type) and issubclass(own, Task)):
        raise ValueError(f"task._target_ {name}: a subclass of {Task.__module__}.Task is needed")
    return own(job)
