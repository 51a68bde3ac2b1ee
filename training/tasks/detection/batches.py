"""Batches of scenes, a function of the step alone."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.pixels import normalized
from slimcam.training.data.detection.scenes import Scenes
from slimcam.training.data.images import ahead
from slimcam.training.tasks.detection.targets import encode
from slimcam.training.tasks.task import Float


@dataclass(frozen=True)
class SceneBatch:
    """What one step learns from: `images` `(B, height, width, 3)`, normalized, and `truth` `(B, R, 13)`."""

    images: Float
    truth: Float


@dataclass(frozen=True)
class SceneBatches:
    """The endless stream of training batches: number `i` of the scenes is in batch `i // batch_size`."""

    scenes: Scenes
    batch_size: int
    epoch_scenes: int
    workers: int = 0

    @property
    def steps_per_epoch(self) -> float:
        return self.epoch_scenes / self.batch_size

    def batch(self, step: int) -> SceneBatch:
        found = [self.scenes[index] for index in range(step * self.batch_size, (step + 1) * self.batch_size)]
        height, width = found[0].image.shape[:2]
        truth = np.stack([encode(scene.points, height, width, scene.boxed, scene.ignored) for scene in found])
        return SceneBatch(normalized(np.stack([scene.image for scene in found]), InputSpec(height, width)), truth)

    def stream(self, sizes: list[int], start: int = 0) -> Generator[SceneBatch, None, None]:
        return ahead(self.batch, range(start, len(sizes)), self.workers)
