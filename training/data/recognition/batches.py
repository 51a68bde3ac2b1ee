"""Batches of augmented, normalized images, prepared by threads ahead of the training step.

A batch is a function of the seed and the step alone: any number of workers gives the same batches, and training that
resumes at step `n` sees exactly what it would have seen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.pixels import normalized
from slimcam.deploy.inference.preprocessing import resized
from slimcam.training.data.images import Float, Image, Images, Selection, ahead
from slimcam.training.data.recognition.augment import AugmentConfig, augment, deform, mixup
from slimcam.training.data.recognition.faces import UNLABELED, FaceSet
from slimcam.training.data.recognition.teacher_targets import TargetSource, TeacherTargets


@dataclass(frozen=True)
class Batch:
    """The batch of one step.

    Attributes:
        images: Normalized images, `(B, size, size, 3)` float32.
        labels: Identities, `(B,)` int32; `UNLABELED` also for views after mixup or elastic deformation, which no longer
            show their person.
        indices: Positions in the set of faces, `(B,)`.
        targets: Targets of the teacher, if there is one.
    """

    images: Float
    labels: NDArray[np.int32]
    indices: NDArray[np.int64]
    targets: TeacherTargets | None


@dataclass(frozen=True)
class Batches:
    """The endless, shuffled stream of training batches of a set of faces.

    Attributes:
        faces: Faces to train on.
        batch_size: Images of a batch.
        augment: Augmentation; `None` leaves the images as they are.
        seed: Seed of order and augmentation.
        targets: Gives the targets of a teacher.
        workers: Threads; 0 takes one for each processor.
        balance: Exponent of the sampling by person. 0 takes each image once an epoch. Above 0, an image is sampled with
            probability `n ** -balance`, where `n` is the number of images of its person, also as the other image of
            mixup; an unlabeled image counts as its person's only one.
        input: What the model reads of a pixel.
    """

    faces: FaceSet
    batch_size: int
    augment: AugmentConfig | None
    seed: int
    targets: TargetSource | None = None
    workers: int = 0
    balance: float = 0.0
    input: InputSpec = field(default_factory=InputSpec)

    @property
    def steps_per_epoch(self) -> float:
        return len(self.faces) / self.batch_size

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step in images of `size` pixels, prepared by the calling thread."""
        indices, variants = self._sampled(step)
        images, own = self._views(indices, variants)
        targets = self.targets(indices, variants, images) if self.targets is not None else None
        views = np.stack([resize(image, size) for image in images])
        labels = np.where(own, self.faces.labels[indices], np.int32(UNLABELED))
        return Batch(normalized(views, self.input), labels, indices, targets)

    def views(self, indices: NDArray[np.int64], variants: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Variants of the images at `indices` as they are augmented, `(B, 112, 112, 3)`."""
        return self._views(indices, variants)[0]

    def stream(self, sizes: list[int], start: int = 0) -> Generator[Batch, None, None]:
        """Batches from step `start` on, prepared ahead by threads; `sizes[step]` are the pixels of each step."""
        return ahead(lambda step: self.batch(step, sizes[step]), range(start, len(sizes)), self.workers)

    def _sampled(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which images a step takes, and which variant of each."""
        # Each epoch is an order of its own; a batch may reach over the end of one into the next.
        count = len(self.faces)
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        orders = {int(epoch): self._order(int(epoch)) for epoch in set(places // count)}
        chosen = np.array([orders[int(place // count)][:, place % count] for place in places], dtype=np.int64)
        return chosen[:, 0], chosen[:, 1]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """An epoch's images and the variant of each, `(2, N)`, kept while batches are taken of it."""
        orders = self._orders
        order = orders.get(epoch)
        if order is None:
            order = orders[epoch] = self._shuffled(epoch)
            # Threads may still be at the end of the epoch before.
            for old in [known for known in list(orders) if known < epoch - 1]:
                orders.pop(old, None)
        return order

    @cached_property
    def _orders(self) -> dict[int, NDArray[np.int64]]:
        return {}

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        count, rng = len(self.faces), np.random.default_rng((self.seed, epoch))
        views = self.targets.views if self.targets is not None else 0
        if self.balance:
            return np.stack([self._sample(count, rng), rng.integers(views or 2**31, size=count)])
        return np.stack([rng.permutation(count), np.full(count, epoch % views if views else epoch)])

    def _views(
        self, indices: NDArray[np.int64], variants: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The views, and whether each is still its person's."""
        views = [self._view(int(i), int(variant)) for i, variant in zip(indices, variants, strict=True)]
        return np.stack([view for view, _ in views]), np.array([own for _, own in views])

    def _view(self, index: int, variant: int) -> tuple[Image, bool]:
        image = self.faces.images[index]
        if self.augment is None:
            return image, True
        rng = np.random.default_rng((self.seed, variant, index))
        view, own = augment(image, self.augment, rng), True
        if rng.random() < self.augment.mixup:
            other = self.faces.images[int(self._sample(1, rng)[0])]
            view, own = mixup(view, augment(other, self.augment, rng), rng), False
        if rng.random() < self.augment.elastic:
            view, own = deform(view, rng), False
        return view, own

    def _sample(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Places of images at random, people with many images less often for each."""
        if not self.balance:
            return rng.integers(len(self.faces), size=count)
        return np.searchsorted(self._cumulative, rng.random(count), side="right")

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        # Nobody knows whose the unlabeled are: each counts as a person with one image.
        labels = self.faces.labels
        images = np.where(labels == UNLABELED, 1, np.bincount(labels[labels != UNLABELED], minlength=1)[labels])
        weights = images ** -float(self.balance)
        cumulative = np.cumsum(weights)
        share: NDArray[np.float64] = cumulative / cumulative[-1]
        return share


def resize(image: Image, size: int) -> Image:
    """Resizes a square image to `(size, size, 3)` as the device does: by pixel area, or linearly to a larger size."""
    return resized(image, size, size)


@dataclass(frozen=True)
class Resized:
    """Square images of any size, brought to one."""

    images: Images
    size: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Image:
        return resize(self.images[index], self.size)


def plain_batches(images: Images, size: int, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """All images in order and unchanged but for their size, `(<= batch_size, size, size, 3)` uint8."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), batch_size):
            chosen = range(start, min(start + batch_size, len(images)))
            yield np.stack(list(pool.map(lambda index: resize(images[index], size), chosen)))


def sample_batches(images: Images, count: int, spec: InputSpec, batch_size: int, seed: int = 0) -> Iterator[Float]:
    """`count` images (or all, if there are fewer) sampled, as a model reads them, `(<= batch_size, size, size, 3)`."""
    drawn = np.random.default_rng(seed).permutation(len(images))[:count]
    batches = plain_batches(Selection(images, drawn), spec.height, batch_size)
    return (normalized(batch, spec) for batch in batches)
