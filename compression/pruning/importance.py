"""How much each channel of a group matters, judged by the weights alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from compression.keras_graph import functional
from compression.pruning.config import CRITERIA
from compression.pruning.graph import Carrier, ChannelGraph, Group

Scores = dict[str, NDArray[np.float64]]


def importance(model: Any, graph: ChannelGraph, criterion: str = "l2") -> Scores:
    """Scores the channels of every prunable group; within a group the scores average 1, so that groups compare.

    `l1` and `l2` take the norm of each weight slice that computes the channel (Li et al., 2017,
    https://arxiv.org/abs/1608.08710), normalised by its mean over the group and averaged over the producing layers;
    `bn_scale` does the same with the absolute scales of batch normalisation (Liu et al., 2017,
    https://arxiv.org/abs/1708.06519) and falls back to `l2` for groups that have none.

    Args:
        graph: the model's, from `compression.pruning.graph.trace`.

    Returns:
        `(size,)` for each prunable group, by name.

    Raises:
        ValueError: the criterion is unknown, or weights are not finite.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"unknown importance criterion {criterion!r}: choose one of {', '.join(CRITERIA)}")
    layers = {layer.name: layer for layer in functional(model).layers}
    scores: Scores = {}
    for group in graph.prunable:
        carriers, order = _judged_by(group, criterion)
        total = np.zeros(group.size)
        for carrier in carriers:
            norms = _slice_norms(layers[carrier.layer], carrier, order)
            # A grouped convolution has a slice of the channel in each of its groups.
            total += _with_mean_one(np.bincount(carrier.channels, norms[carrier.positions], minlength=group.size))
        if not np.isfinite(total).all():
            raise ValueError(
                f"the weights of {', '.join(group.producers)} are not finite, so their channels cannot be ranked: "
                "start from a model whose training did not diverge"
            )
        scores[group.name] = _with_mean_one(total)
    return scores


def _judged_by(group: Group, criterion: str) -> tuple[list[Carrier], int]:
    """The weights that judge a group, and the order of the norm."""
    scales = [carrier for carrier in group.carriers if carrier.weight == "gamma"]
    if criterion == "bn_scale" and scales:
        return scales, 1
    return [carrier for carrier in group.carriers if carrier.produces], 1 if criterion == "l1" else 2


def _slice_norms(layer: Any, carrier: Carrier, order: int) -> NDArray[np.float64]:
    """The norm of each slice of a weight along the carrier's axis."""
    weight = next(weight for weight in layer.weights if weight.name == carrier.weight)
    value = np.moveaxis(keras.ops.convert_to_numpy(weight), carrier.axis, 0)
    norms: NDArray[np.float64] = np.linalg.norm(value.reshape(len(value), -1).astype(np.float64), order, axis=1)
    return norms


def _with_mean_one(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values / (values.mean() or 1.0), dtype=np.float64)
