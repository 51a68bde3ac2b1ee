"""A classification head of very many identities, of which each step sees a sample: Partial FC.

An et al. 2022, "Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial
FC": the softmax of a step is over the identities of its batch and a random share of the others. The model has the
centers of a sample alone; those of all identities, with what the optimizer keeps of each, are in this process's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.recognition.batches import Batch
from slimcam.training.data.recognition.faces import UNLABELED
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.model import COSINES, check_centers

Kernel = NDArray[np.float32]

CENTERS = "centers"


@dataclass
class SampledCenters:
    """The centers of all identities, and the sample of them that is in the model.

    A sample is a function of seed, step and labels, so that a resumed training takes the same.

    Attributes:
        state: Arrays `(identities, subcenters, E)` float32: the centers, and by the names of its variables what the
            optimizer keeps of each.
        count: Identities of a sample, no fewer than the images of a batch.
        seed: Seed of the samples.
    """

    state: dict[str, Kernel]
    count: int
    seed: int
    _sample: NDArray[np.int64] = field(init=False, repr=False)

    @property
    def kernel(self) -> Kernel:
        """Centers in the order of the classifier of `model.with_classifier`, `(E, subcenters * identities)`."""
        return _columns(self.state[CENTERS])

    def enter(self, learner: Any, step: int, batch: Batch) -> Batch:
        """Puts a step's sample into the model; the batch's labels become places in the sample."""
        self._sample, labels = sample(batch.labels, len(self.state[CENTERS]), self.count, (self.seed, step))
        for variable, array in self._parts(learner):
            variable.assign(_columns(array[self._sample]))
        return replace(batch, labels=labels)

    def leave(self, learner: Any) -> None:
        """Takes back what the step made of the sample."""
        for variable, array in self._parts(learner):
            rows = np.asarray(variable).T.reshape(array.shape[1], self.count, array.shape[2])
            array[self._sample] = rows.transpose(1, 0, 2)

    def _parts(self, learner: Any) -> Iterator[tuple[Any, Kernel]]:
        """The variables that hold a sample, each with the array of all identities."""
        kernel, centers = learner.get_layer(COSINES).kernel, self.state[CENTERS]
        yield kernel, centers
        for variable in learner.optimizer.variables:
            if variable.shape == kernel.shape and variable.name.startswith(kernel.path.replace("/", "_")):
                if variable.name not in self.state:
                    self.state[variable.name] = np.zeros_like(centers)
                yield variable, self.state[variable.name]


def sampled_centers(
    loss: LossConfig, identities: int, size: int, batch_size: int, seed: int, kernel: Kernel | None = None
) -> SampledCenters:
    """Centers of which a share is sampled for each step.

    Args:
        loss: Its `sample` and `subcenters`.
        identities: Number of them.
        size: Dimensions of the embedding.
        batch_size: Images of a batch; a sample has no fewer identities.
        seed: Seed of samples.
        kernel: `(size, subcenters * identities)` centers to start from; random ones if absent.

    Raises:
        ValueError: the kernel is of another number of centers.
    """
    if kernel is not None:
        check_centers(kernel, size, loss.subcenters * identities)
    if kernel is None:
        shape = (identities, loss.subcenters, size)
        centers = np.random.default_rng(identities).standard_normal(shape, dtype=np.float32)
        # Without temporary arrays, which would be as large.
        centers /= np.sqrt(np.einsum("ise,ise->is", centers, centers))[..., None]
    else:
        centers = np.ascontiguousarray(kernel.T.reshape(loss.subcenters, identities, size).transpose(1, 0, 2))
    count = min(identities, max(batch_size, round(loss.sample * identities)))
    return SampledCenters({CENTERS: centers}, count, seed)


def sample(
    labels: NDArray[np.int32], identities: int, count: int, seed: Any
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The identities of a batch and as many others at random as make `count`, and the labels' places among them.

    Unlabeled faces stay unlabeled.
    """
    own = np.unique(labels[labels != UNLABELED]).astype(np.int64)
    rng = np.random.default_rng(seed)
    ranks = rng.choice(identities - len(own), count - len(own), replace=False, shuffle=False)
    others = np.delete(np.arange(identities), own)[ranks]
    places = np.where(labels == UNLABELED, UNLABELED, np.searchsorted(own, labels)).astype(np.int32)
    return np.concatenate([own, others]), places


def _columns(rows: Kernel) -> Kernel:
    """`(identities, subcenters, E)` as `(E, subcenters * identities)`."""
    return rows.transpose(2, 1, 0).reshape(rows.shape[2], -1)
