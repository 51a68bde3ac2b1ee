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
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.augment import AugmentConfig, augment, blend
from training.data.faces import FaceSet, Image, Images, Selection
from training.models import PIXEL_MEAN, PIXEL_SCALE

Float = NDArray[np.float32]

AHEAD = 4


class Targets(Protocol):
    """The embeddings that images should have.

    Attributes:
        views: how many augmented views of each image are told apart; 0 where every view has its image's target.
    """

    @property
    def views(self) -> int: ...

    def __call__(self, indices: NDArray[np.int64], variants: NDArray[np.int64], images: NDArray[np.uint8]) -> Float:
        """`(B, E)` for the images at `indices`, of which the student sees these variants, `(B, 112, 112, 3)`."""
        ...


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        images: `(B, size, size, 3)` float32, normalised.
        labels: `(B,)` int32.
        indices: `(B,)`, places in the set.
        targets: `(B, E)` if there is a teacher.
    """

    images: Float
    labels: NDArray[np.int32]
    indices: NDArray[np.int64]
    targets: Float | None


@dataclass(frozen=True)
class Batches:
    """The endless, shuffled stream of training batches of a set of faces.

    Attributes:
        augment: `None` leaves the images as they are.
        targets: what a teacher says of the images.
        workers: threads; 0 takes one for each processor.
    """

    faces: FaceSet
    batch_size: int
    augment: AugmentConfig | None
    seed: int
    targets: Targets | None = None
    workers: int = 0

    @property
    def steps_per_epoch(self) -> float:
        return len(self.faces) / self.batch_size

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step in images of `size` pixels, prepared by the calling thread."""
        indices, epochs = self._places(step)
        views = self.targets.views if self.targets is not None else 0
        variants = epochs % views if views else epochs
        images = np.stack([self._view(int(i), int(variant)) for i, variant in zip(indices, variants, strict=True)])
        targets = self.targets(indices, variants, images) if self.targets is not None else None
        resized = np.stack([resize(image, size) for image in images])
        return Batch(normalize(resized), self.faces.labels[indices], indices, targets)

    def stream(self, sizes: list[int], start: int = 0) -> Generator[Batch, None, None]:
        """Batches from step `start` on, prepared ahead by threads; `sizes[step]` are the pixels of each step."""
        workers = self.workers or os.cpu_count() or 1
        with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
            steps = iter(range(start, len(sizes)))
            ahead: deque[Future[Batch]] = deque()
            try:
                while True:
                    while len(ahead) < AHEAD + workers and (step := next(steps, None)) is not None:
                        ahead.append(pool.submit(self.batch, step, sizes[step]))
                    if not ahead:
                        return
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _places(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        # Each epoch is a permutation of its own; a batch may reach over the end of one into the next.
        count = len(self.faces)
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = places // count
        orders = {
            int(epoch): np.random.default_rng((self.seed, int(epoch))).permutation(count) for epoch in set(epochs)
        }
        chosen = [orders[int(epoch)][place % count] for epoch, place in zip(epochs, places, strict=True)]
        return np.array(chosen, dtype=np.int64), epochs

    def _view(self, index: int, variant: int) -> Image:
        image = self.faces.images[index]
        if self.augment is None:
            return image
        rng = np.random.default_rng((self.seed, variant, index))
        view = augment(image, self.augment, rng)
        if rng.random() < self.augment.mix:
            other = self.faces.images[int(rng.integers(len(self.faces)))]
            view = blend(view, augment(other, self.augment, rng), rng)
        return view


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
