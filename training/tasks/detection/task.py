"""The task of finding faces: scenes in, a row for each cell out (see `targets.encode`), evaluated by faces found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.pixels import normalized
from slimcam.deploy.vision.detector_output import decode_faces
from slimcam.training.data.detection import scenes
from slimcam.training.data.detection.rendered_faces import rendered_frames
from slimcam.training.data.detection.scenes import SceneData, Scenes
from slimcam.training.fit.checkpoint import History
from slimcam.training.fit.fit import Loss, Objective
from slimcam.training.tasks.detection.batches import SceneBatch, SceneBatches
from slimcam.training.tasks.detection.config import DetectorConfig, DetectorLossConfig
from slimcam.training.tasks.detection.evaluation import (
    FPPI,
    LEAST_SCORE,
    PHOTOGRAPHS,
    evaluation,
    find,
    find_boxed,
)
from slimcam.training.tasks.detection.metrics import SIZES, match, recall_at
from slimcam.training.tasks.detection.network import network
from slimcam.training.tasks.imitation import learn, taught_stages
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Evaluation, Float, Pixels, Size, Task, TrainingSpec


class Detection(Task):
    name = "detection"
    measure = "Recall"
    purpose = (
        "A face detector: an RGB picture in; for each cell of three maps (strides 8, 16, 32) a score, a size and five "
        "points out: eyes, nose and mouth corners."
    )
    limits = (
        "Faces below 16 pixels, turned by more than 60 degrees, or mostly covered were not trained on.",
        "A detector misses faces unevenly over groups of people when its training data are uneven; try it on the "
        "people and in the light that it will meet.",
    )

    @cached_property
    def data(self) -> SceneData:
        return scenes.load(self.job.config.data, self.job.cache)

    def describe(self) -> dict[str, Any]:
        train, sets = self.data.train, self.data.test
        evaluated = " and ".join(f"{len(found):,} {name}" for name, found in sets.items())
        if self.data.evaluated:
            evaluated += f" and {len(self.data.evaluated):,} real photographs"
        real = f", and {len(self.data.photographs):,} real photographs" if self.data.photographs else ""
        summary = (
            f"scenes composed without end of {len(train.photos):,} photos and {len(train.crops):,} crops{real}; "
            f"{evaluated} of other people to evaluate on"
        )
        return {"kind": self.job.config.data.kind, "summary": summary, "notes": list(self.data.notes)}

    def samples(self, count: int, size: Size, batch_size: int) -> Iterator[Float]:
        for start in range(0, count, batch_size):
            chosen = range(start, min(start + batch_size, count))
            yield normalized(np.stack([self.data.scenes[index].image for index in chosen]), self.input(size))

    def labeled(self, count: int, batch_size: int) -> tuple[Callable[[], Iterator[tuple[Float, Any]]], Loss]:
        from slimcam.training.tasks.detection.losses import detection

        train = self.job.config.train

        def batches() -> Iterator[tuple[Float, Any]]:
            source = SceneBatches(self.data.scenes, batch_size, train.epoch_scenes)
            for step in range(-(-count // batch_size)):
                batch = source.batch(step)
                yield batch.images, batch.truth

        return batches, detection(train.loss)

    def test_images(self, count: int, size: Size) -> Pixels:
        del size
        found = self.data.test["photos"]
        chosen = np.random.default_rng(0).permutation(len(found))[:count]
        return np.stack([found[int(index)].image for index in chosen])

    def golden_images(self, size: Size) -> Pixels:
        # One: with two of them the golden pair would be a fifth of the bundle.
        return rendered_frames(*size, 1)

    def build(self) -> Any:
        data, model = self.job.config.data, self.job.config.model
        if not isinstance(model, DetectorConfig):
            raise ValueError("data of scenes are for a detector: set task=detection")
        if (data.height, data.width) != (model.height, model.width):
            raise ValueError(
                f"the scenes are {data.height}x{data.width}, the model takes {model.height}x{model.width}: set "
                "data.height and data.width to those of the model"
            )
        return network(model)

    def learn(self, model: Any, spec: TrainingSpec, job: Job) -> History:
        if spec.fit.sizes:
            raise ValueError("fit.sizes: the scenes of a detector have one size; leave it out")
        train = self.job.config.train
        batches = SceneBatches(self.data.scenes, spec.fit.batch_size, train.epoch_scenes, train.workers)
        return learn(self, model, spec, job, batches, objective)

    def origin(self) -> dict[str, Any]:
        return {
            "backbone": "slimcam detector",
            "initial_weights": "random",
            "data": f"{self.describe()['summary']} (data: {self.job.config.data.kind})",
            "teacher": None,
            "taught_stages": taught_stages(self.job),
        }

    def validator(self) -> Callable[[Any], float]:
        return recall_on(self.data.held_out)

    def evaluate(self, folders: Mapping[str, Path], *, test_alone: bool = False) -> Evaluation:  # noqa: ARG002
        config = self.job.config.evaluate
        matches = {
            name: {model: find(folder, found, config.threads) for model, folder in folders.items()}
            for name, found in self.data.test.items()
        }
        if evaluated := self.data.evaluated:
            size = self.data.config.height, self.data.config.width
            matches[PHOTOGRAPHS] = {
                model: find_boxed(folder, evaluated, *size, config.threads) for model, folder in folders.items()
            }
        return evaluation(matches, config.rates)


def recall_on(found: Scenes) -> Callable[[Any], float]:
    """A function from a model to its recall of faces from 24 pixels on in scenes, at `FPPI` false faces an image."""

    def recall(model: Any) -> float:
        matches = []
        for start in range(0, len(found), 32):
            part = [found[index] for index in range(start, min(start + 32, len(found)))]
            height, width = part[0].image.shape[:2]
            images = normalized(np.stack([scene.image for scene in part]), InputSpec(height, width))
            for scene, output in zip(part, np.asarray(model.predict_on_batch(images)), strict=True):
                faces = decode_faces(output, height, width, LEAST_SCORE)
                matches.append(match(faces.points, faces.scores, scene.points))
        return recall_at(matches, FPPI).share(SIZES["24+"]) or 0.0

    return recall


def objective(loss: DetectorLossConfig, dense: Any = None) -> Objective:
    """What a detector learns by; `dense` is the model that it imitates."""
    from slimcam.training.tasks.detection import losses

    def truth(batch: SceneBatch) -> Float:
        if dense is None:
            return batch.truth
        return np.concatenate([batch.truth, np.asarray(dense.predict_on_batch(batch.images))], axis=2)

    return Objective({"faces": losses.detection(loss)}, {"faces": 1.0}, truth)
