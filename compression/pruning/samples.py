"""What criteria may look at in a model beside its weights: inputs, and a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError

Inputs = NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Data of a model, read by those criteria alone that need them.

        samples = compression.Samples(inputs=lambda: [images])

    Attributes:
        inputs: Gives batches of inputs, `(N, ...)` each, normalized as for training.
        labeled: Gives batches of inputs, each with the truth that the loss is given.
        loss: `(truth, outputs)` to the loss of each sample, `(N,)`, or of the batch.
    """

    inputs: Callable[[], Iterable[Inputs]] | None = None
    labeled: Callable[[], Iterable[tuple[Inputs, Any]]] | None = None
    loss: Callable[[Any, Any], Any] | None = None


def inputs_of(samples: Samples | None, criterion: str) -> Iterator[Inputs]:
    """The batches of inputs.

    Raises:
        CompressionError: there are none.
    """
    if samples is None or samples.inputs is None:
        raise CompressionError(
            f"criterion {criterion} needs inputs, and none are given: give Samples(inputs=...), or take one of the "
            "weights alone, such as outgoing"
        )
    return _some(samples.inputs(), criterion)


def labeled_of(
    samples: Samples | None, criterion: str
) -> tuple[Iterator[tuple[Inputs, Any]], Callable[[Any, Any], Any]]:
    """The batches of inputs with their truth, and the loss.

    Raises:
        CompressionError: there are none, or no loss.
    """
    if samples is None or samples.labeled is None or samples.loss is None:
        raise CompressionError(
            f"criterion {criterion} needs a loss, and none is given: give Samples(labeled=..., loss=...), or take "
            "hessian, which needs inputs alone, or outgoing, which needs none"
        )
    return _some(samples.labeled(), criterion), samples.loss


def _some(batches: Iterable[Any], criterion: str) -> Iterator[Any]:
    found = False
    for batch in batches:
        found = True
        yield batch
    if not found:
        raise CompressionError(f"criterion {criterion} needs at least one batch of samples; got none")
