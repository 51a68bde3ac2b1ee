"""The task of telling classes apart: images in, a logit for each class out, evaluated by the first answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.pixels import input_spec, normalized
from slimcam.training.data.classification import road_signs
from slimcam.training.data.classification.labeled import ClassData
from slimcam.training.data.recognition.batches import Batch, Batches, Resized, plain_batches, resize, sample_batches
from slimcam.training.data.recognition.faces import FaceSet
from slimcam.training.data.sources import load_classes
from slimcam.training.fit.checkpoint import History
from slimcam.training.fit.fit import Loss, Objective
from slimcam.training.tasks.backbone import import_builder, initial_weights, pixels_of
from slimcam.training.tasks.classification.config import ClassifierConfig, ClassifierLossConfig
from slimcam.training.tasks.classification.evaluation import evaluation, predict
from slimcam.training.tasks.classification.network import classifier
from slimcam.training.tasks.imitation import learn, taught_stages
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Evaluation, Float, Pixels, Size, Task, TrainingSpec, input_size


class Classification(Task):
    name = "classification"
    measure = "Top-1 accuracy"
    purpose = "A classifier: an RGB image in, whose middle square it sees; a logit for each of its classes out."
    limits = (
        "It always names one of its classes, also for an image that shows none: thresholds on the probability leave "
        "doubtful answers out.",
        "Images of another camera, season or country than those trained on are named worse: measure it there.",
    )

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        # Every stage that reads a model asks for its task first.
        model = getattr(job.config, "model", None)
        if isinstance(model, ClassifierConfig):
            import_builder(model)

    @cached_property
    def data(self) -> ClassData:
        return load_classes(self.job.config.data, self.job.cache)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    def describe(self) -> dict[str, Any]:
        data = self.data
        summary = (
            f"{len(data.train):,} images of {len(data.classes):,} classes to train on; {len(data.test):,} others to "
            "evaluate on"
        )
        return {"kind": self.job.config.data.kind, "summary": summary, "notes": list(data.notes)}

    def samples(self, count: int, size: Size, batch_size: int) -> Iterator[Float]:
        return sample_batches(self.data.train.images, count, self.input(size), batch_size)

    def labeled(self, count: int, batch_size: int) -> tuple[Callable[[], Iterator[tuple[Float, Any]]], Loss]:
        from slimcam.training.tasks.classification.losses import classes

        size, train = self.job.config.model.input_size, self.job.config.train

        def batches() -> Iterator[tuple[Float, Any]]:
            source = self._batches(batch_size, self.input((size, size)))
            for step in range(-(-count // batch_size)):
                batch = source.batch(step, size)
                yield batch.images, batch.labels[:, None].astype(np.float32)

        return batches, classes(train.loss)

    def test_images(self, count: int, size: Size) -> Pixels:
        images = self.data.test.images
        chosen = np.random.default_rng(0).permutation(len(images))[:count]
        return np.stack([resize(images[int(index)], size[0]) for index in chosen])

    def golden_images(self, size: Size) -> Pixels:
        return np.stack([resize(road_signs.draw(name, 0), size[0]) for name in road_signs.CLASSES[:2]])

    def build(self) -> Any:
        config = self.job.config.model
        if not isinstance(config, ClassifierConfig):
            raise ValueError("data with classes are for a classifier: set task=classification")
        return classifier(config, len(self.classes))

    def input(self, size: Size) -> InputSpec:
        return input_spec(pixels_of(self.job.config.model), *size)

    def learn(self, model: Any, spec: TrainingSpec, job: Job) -> History:
        batches = self._batches(spec.fit.batch_size, self.input(input_size(model)))
        return learn(self, model, spec, job, batches, objective)

    def validate(self, outputs: Callable[[Pixels], Float], size: Size) -> float | None:
        held_out = self.data.held_out
        return None if held_out is None else top_one(outputs, held_out, size[0])

    def origin(self) -> dict[str, Any]:
        config = self.job.config
        return {
            "backbone": config.model.backbone.replace("\\", "/").rsplit("/", 1)[-1],
            "initial_weights": initial_weights(config.model),
            "data": f"{self.describe()['summary']} (data: {config.data.kind})",
            "teacher": None,
            "taught_stages": taught_stages(self.job),
        }

    def validator(self) -> Callable[[Any], float] | None:
        held_out, size = self.data.held_out, self.job.config.model.input_size
        if held_out is None:
            return None
        spec = self.input((size, size))

        def accuracy(model: Any) -> float:
            return top_one(lambda batch: np.asarray(model.predict_on_batch(normalized(batch, spec))), held_out, size)

        return accuracy

    def evaluate(self, folders: Mapping[str, Path], *, test_alone: bool = False) -> Evaluation:  # noqa: ARG002
        config, test = self.job.config.evaluate, self.data.test
        logits = {name: predict(folder, test, config.threads) for name, folder in folders.items()}
        return evaluation(logits, test, config.rates)

    def _batches(self, batch_size: int, read: InputSpec) -> Batches:
        train = self.job.config.train
        images = Resized(self.data.train.images, read.height)
        return Batches(
            replace(self.data.train, images=images),
            batch_size,
            train.augment,
            train.seed,
            workers=train.workers,
            balance=train.balance,
            input=read,
        )


def objective(loss: ClassifierLossConfig, dense: Any = None) -> Objective:
    """What a classifier learns by; `dense` is the model that it imitates."""
    from slimcam.training.tasks.classification import losses

    def truth(batch: Batch) -> Float:
        labels = batch.labels[:, None].astype(np.float32)
        if dense is None:
            return labels
        return np.concatenate([labels, np.asarray(dense.predict_on_batch(batch.images))], axis=1)

    return Objective({"classes": losses.classes(loss)}, {"classes": 1.0}, truth)


def top_one(outputs: Callable[[Pixels], Float], images: FaceSet, side: int) -> float:
    """The share of images whose class is that of the largest of the outputs."""
    logits = np.concatenate([outputs(batch) for batch in plain_batches(images.images, side, 64)])
    return float((logits.argmax(axis=1) == images.labels).mean())
