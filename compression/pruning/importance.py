"""The importance of each channel of a group: one score, of the values that a criterion gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.pruning.config import Criterion, Normalization, Reduction
from slimcam.compression.pruning.criteria import criterion_function
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.samples import Samples
from slimcam.deploy.common.choices import choose

Float = NDArray[np.float64]
Scores = dict[str, Float]

_COMPARABLE = (Criterion.LAMP, Criterion.TAYLOR, Criterion.FISHER, Criterion.HESSIAN)
"""Criteria whose values compare between groups as they are."""


def importance(
    model: Any,
    graph: ChannelGraph,
    criterion: str = Criterion.OUTGOING,
    samples: Samples | None = None,
    *,
    reduction: str = Reduction.MEAN,
    normalization: str = Normalization.AUTO,
) -> Scores:
    """Scores the channels of every prunable group.

    The values of each layer that makes the channels are normalized, reduced to one value a channel, and this is
    normalized again, so that groups compare.

    Args:
        model: functional or sequential Keras 3 model.
        graph: the model's, from `trace`.
        criterion: name in `slimcam.compression.pruning.criteria`, or `module:function` of a user's own.
        samples: what the criterion may look at beside the weights.
        reduction: `mean`, `sum`, `max`, or `first`, the first layer's.
        normalization: `mean`, `max`, `gaussian` or `none`; `auto` is `none` where a criterion's values compare between
            groups as they are, and `mean` elsewhere.

    Returns:
        `(size,)` for each prunable group, by name.

    Raises:
        ValueError: an option is unknown, or a criterion of the user's gives other shapes.
        CompressionError: values are not finite, or the criterion needs samples that are not given.
    """
    reduce = _REDUCTIONS[choose("reduction", Reduction, reduction)]
    divisor = choose("normalization", Normalization, normalization)
    if divisor is Normalization.AUTO:
        divisor = Normalization.NONE if criterion in _COMPARABLE else Normalization.MEAN
    normalize = _NORMALIZATIONS[divisor]
    values = criterion_function(criterion)(model, graph, samples)
    scores: Scores = {}
    for group in graph.prunable:
        rows = np.atleast_2d(np.asarray(values.get(group.name, ()), dtype=np.float64))
        if not len(rows) or rows.shape[1:] != (group.size,):
            raise ValueError(
                f"criterion {criterion}: group {group.name!r} needs values of shape ({group.size},) or (layers, "
                f"{group.size}), got {np.shape(values.get(group.name, ()))}"
            )
        if not np.isfinite(rows).all():
            raise CompressionError(
                f"the values of {', '.join(group.producers)} by {criterion} are not finite, so that channels cannot be "
                "ranked: start from a model whose training did not diverge"
            )
        scores[group.name] = normalize(reduce(np.stack([normalize(row) for row in rows])))
    return scores


def _gaussian(values: Float) -> Float:
    return np.asarray((values - values.mean()) / (values.std() or 1.0))


_REDUCTIONS: dict[Reduction, Callable[[Float], Float]] = {
    Reduction.MEAN: lambda rows: np.asarray(rows.mean(axis=0)),
    Reduction.SUM: lambda rows: np.asarray(rows.sum(axis=0)),
    Reduction.MAX: lambda rows: np.asarray(rows.max(axis=0)),
    Reduction.FIRST: lambda rows: np.asarray(rows[0]),
}

_NORMALIZATIONS: dict[Normalization, Callable[[Float], Float]] = {
    Normalization.MEAN: lambda values: np.asarray(values / (values.mean() or 1.0)),
    Normalization.MAX: lambda values: np.asarray(values / (np.abs(values).max() or 1.0)),
    Normalization.GAUSSIAN: _gaussian,
    Normalization.NONE: lambda values: values,
}
