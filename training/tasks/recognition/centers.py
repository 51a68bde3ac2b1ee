"""A classification head of very many identities, of which each step sees a sample: Partial FC.

An et al. 2022, "Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial
FC": the softmax of a step is over the identities of its batch and a random share of the others. The model has the
centers of a sample alone, and so has the optimizer; those of all identities, with what the optimizer keeps of each, are
variables beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.recognition.batches import Batch
from slimcam.training.data.recognition.faces import UNLABELED
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.model import COSINES, check_centers

Kernel = NDArray[np.float32]

CENTERS = "centers"


class SampledCenters:
    """The centers of all identities, and the sample of them that is in the model.

    A sample is a function of seed, step and labels, so that a resumed training takes the same.

    Args:
        centers: `(identities, subcenters, E)` to start from.
        count: Identities of a sample, no fewer than the images of a batch.
        seed: Seed of the samples.
    """

    def __init__(self, centers: Kernel, count: int, seed: int) -> None:
        self.identities, self.count, self.seed = len(centers), count, seed
        self._arrays: dict[str, Kernel] = {CENTERS: centers}
        self._tables: dict[str, Any] = {}

    @property
    def arrays(self) -> Mapping[str, Any]:
        """The centers, and by the names of its variables what the optimizer keeps of each: arrays as `centers`."""
        return {**self._arrays, **self._tables}

    @property
    def kernel(self) -> Kernel:
        """Centers in the order of the classifier of `model.with_classifier`, `(E, subcenters * identities)`."""
        rows = np.asarray(self.arrays[CENTERS])
        return rows.transpose(2, 1, 0).reshape(rows.shape[2], -1)

    def restore(self, arrays: Mapping[str, Kernel]) -> None:
        """Goes on from earlier `arrays`."""
        self._arrays |= arrays

    def enter(self, learner: Any, step: int, batch: Batch) -> Batch:
        """Puts a step's sample into the model; the batch's labels become places in the sample."""
        from keras import ops

        self._sample, labels = sample(batch.labels, self.identities, self.count, (self.seed, step))
        for variable, table in self._parts(learner):
            rows = _take(table, self._sample)
            variable.assign(ops.reshape(ops.transpose(rows, (2, 1, 0)), variable.shape))
        return replace(batch, labels=labels)

    def leave(self, learner: Any) -> None:
        """Takes back what the step made of the sample."""
        from keras import ops

        for variable, table in self._parts(learner):
            _, subcenters, size = table.shape
            rows = ops.transpose(ops.reshape(variable, (size, subcenters, self.count)), (2, 1, 0))
            _put(table, self._sample, rows)

    def _parts(self, learner: Any) -> Iterator[tuple[Any, Any]]:
        """The variables that hold a sample, each with that of all identities."""
        kernel = learner.get_layer(COSINES).kernel
        prefix = kernel.path.replace("/", "_")
        yield kernel, self._table(CENTERS)
        for variable in learner.optimizer.variables:
            if variable.shape == kernel.shape and variable.name.startswith(prefix):
                yield variable, self._table(variable.name)

    def _table(self, name: str) -> Any:
        import keras

        if name not in self._tables:
            shape = self._tables[CENTERS].shape if self._tables else None
            value = self._arrays.pop(name) if name in self._arrays else "zeros"
            self._tables[name] = keras.Variable(value, shape=shape, dtype="float32", trainable=False)
        return self._tables[name]


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
    if kernel is None:
        shape = (identities, loss.subcenters, size)
        centers = np.random.default_rng(identities).standard_normal(shape, dtype=np.float32)
        # Without temporary arrays, which would be as large.
        centers /= np.sqrt(np.einsum("ise,ise->is", centers, centers))[..., None]
    else:
        check_centers(kernel, size, loss.subcenters * identities)
        centers = np.ascontiguousarray(kernel.T.reshape(loss.subcenters, identities, size).transpose(1, 0, 2))
    count = min(identities, max(batch_size, round(loss.sample * identities)))
    return SampledCenters(centers, count, seed)


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


def _take(table: Any, places: NDArray[np.int64]) -> Any:
    """Rows of a variable."""
    import keras

    if keras.backend.backend() == "tensorflow":
        # A variable that was written to sparsely is copied whole when it is read otherwise.
        return table.value.sparse_read(places)
    return keras.ops.take(table, places, axis=0)


def _put(table: Any, places: NDArray[np.int64], rows: Any) -> None:
    """Writes rows of a variable in place: a copy of it would be as large."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        table.value.scatter_update(tf.IndexedSlices(rows, places))
    elif keras.backend.backend() == "jax":
        table.assign(_jax_put()(table.value, places.astype(np.int32), rows))
    else:
        table.assign(keras.ops.scatter_update(table, places[:, None], rows))


@cache
def _jax_put() -> Any:
    import jax

    return jax.jit(lambda table, places, rows: table.at[places].set(rows), donate_argnums=0)
