"""Batches of augmented, normalised images, prepared by threads ahead of the training step.

A batch is a function of the seed and the step alone: any number of workers gives the same batches, and training that
resumes at step `n` sees exactly what it would have seen.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.augment import AugmentConfig, augment
from training.data.faces import FaceSet, Image, Images, Selection
from training.models import PIXEL_MEAN, PIXEL_SCALE

Float = NDArray[np.float32]

AHEAD = 4


@dataclass(frozen=True)
class Batch:
    """Images `(B, size, size, 3)` float32 normalised, labels `(B,)` int32, and their places in the set `(B,)`."""

    images: Float
    labels: NDArray[np.int32]
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Batches:
    """The endless, shuffled stream of training batches of a set of faces.

    Attributes:
        size: pixels; images are resized to it after augmentation.
        augment: `None` leaves the images as they are.
        workers: threads; 0 takes one for each processor.
    """

    faces: FaceSet
    size: int
    batch_size: int
    augment: AugmentConfig | None
    seed: int
    workers: int = 0

    @property
    def steps_per_epoch(self) -> float:
        return len(self.faces) / self.batch_size

    def batch(self, step: int) -> Batch:
        """The batch of a step, prepared by the calling thread."""
        indices = self._indices(step)
        images = np.stack([self._image(int(index), step, place) for place, index in enumerate(indices)])
        return Batch(normalize(images), self.faces.labels[indices], indices)

    def stream(self, start: int = 0) -> Generator[Batch, None, None]:
        """Batches from step `start` on, prepared ahead by threads."""
        workers = self.workers or os.cpu_count() or 1
        with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
            ahead: deque[Future[Batch]] = deque(pool.submit(self.batch, start + i) for i in range(AHEAD + workers))
            step = start + len(ahead)
            try:
                while True:
                    ready = ahead.popleft().result()
                    ahead.append(pool.submit(self.batch, step))
                    step += 1
                    yield ready
            finally:
                for future in ahead:
                    future.cancel()

    def _indices(self, step: int) -> NDArray[np.int64]:
        # Each epoch is a permutation of its own; a batch may reach over the end of one into the next.
        count = len(self.faces)
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = places // count
        orders = {
            int(epoch): np.random.default_rng((self.seed, int(epoch))).permutation(count) for epoch in set(epochs)
        }
        return np.array([orders[int(epoch)][place % count] for epoch, place in zip(epochs, places, strict=True)])

    def _image(self, index: int, step: int, place: int) -> Image:
        image = self.faces.images[index]
        if self.augment is not None:
            image = augment(image, self.augment, np.random.default_rng((self.seed, step, place)))
        return resize(image, self.size)


def resize(image: Image, size: int) -> Image:
    """Resizes a square image to `(size, size, 3)` as the device does: by pixel area, or linearly to a larger size."""
    if image.shape[:2] == (size, size):
        return image
    interpolation = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_LINEAR
    resized: Image = cv2.resize(image, (size, size), interpolation=interpolation)
    return resized


def normalize(images: NDArray[np.uint8]) -> Float:
    """Pixels as the recognizers of `training.models` take them."""
    return (images.astype(np.float32) - PIXEL_MEAN) / np.float32(PIXEL_SCALE)


def plain_batches(images: Images, size: int, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """All images in order and unchanged but for their size, `(<= batch_size, size, size, 3)` uint8."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), batch_size):
            chosen = range(start, min(start + batch_size, len(images)))
            yield np.stack(list(pool.map(lambda index: resize(images[index], size), chosen)))


def sample_batches(images: Images, count: int, size: int, batch_size: int, seed: int = 0) -> Iterator[Float]:
    """`count` images (or all, if there are fewer) drawn at random, normalised, `(<= batch_size, size, size, 3)`."""
    drawn = np.random.default_rng(seed).permutation(len(images))[:count]
    return map(normalize, plain_batches(Selection(images, drawn), size, batch_size))
