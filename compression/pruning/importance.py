"""The importance of each channel of a group, by the weights alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.keras_graph import functional
from slimcam.compression.layers.weights import weight
from slimcam.compression.pruning.config import Criterion
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.groups import Group, WeightSlice
from slimcam.deploy.common.choices import choose

Scores = dict[str, NDArray[np.float64]]


def importance(model: Any, graph: ChannelGraph, criterion: str = Criterion.L2) -> Scores:
    """Scores the channels of every prunable group; within a group the scores average 1, so that groups compare.

    `l1` and `l2` take the norm of each weight slice that computes the channel (Li et al., 2017,
    https://arxiv.org/abs/1608.08710), normalized by its mean over the group and averaged over the producing layers;
    `bn_scale` does the same with the absolute scales of batch normalization (Liu et al., 2017,
    https://arxiv.org/abs/1708.06519) and falls back to `l2` for groups that have none.

    Args:
        model: functional or sequential Keras 3 model.
        graph: the model's, from `trace`.
        criterion: `l1`, `l2` or `bn_scale`.

    Returns:
        `(size,)` for each prunable group, by name.

    Raises:
        ValueError: the criterion is unknown.
        CompressionError: weights are not finite.
    """
    criterion = choose("criterion", Criterion, criterion)
    layers = {layer.name: layer for layer in functional(model).layers}
    scores: Scores = {}
    for group in graph.prunable:
        slices, order = _judged_by(group, criterion)
        total = np.zeros(group.size)
        for each in slices:
            norms = _slice_norms(layers[each.layer], each, order)
            # A grouped convolution has a slice of the channel in each of its groups.
            total += _with_mean_one(np.bincount(each.channels, norms[each.positions], minlength=group.size))
        if not np.isfinite(total).all():
            raise CompressionError(
                f"the weights of {', '.join(group.producers)} are not finite, so their channels cannot be ranked: "
                "start from a model whose training did not diverge"
            )
        scores[group.name] = _with_mean_one(total)
    return scores


def _judged_by(group: Group, criterion: Criterion) -> tuple[list[WeightSlice], int]:
    """The weights that a group is judged by, and the order of the norm."""
    scales = [each for each in group.slices if each.weight == "gamma"]
    if criterion is Criterion.BN_SCALE and scales:
        return scales, 1
    return [each for each in group.slices if each.produces], 1 if criterion is Criterion.L1 else 2


def _slice_norms(layer: Any, along: WeightSlice, order: int) -> NDArray[np.float64]:
    """The norm of each slice of a weight along an axis."""
    value = np.moveaxis(keras.ops.convert_to_numpy(weight(layer, along.weight)), along.axis, 0)
    norms: NDArray[np.float64] = np.linalg.norm(value.reshape(len(value), -1).astype(np.float64), order, axis=1)
    return norms


def _with_mean_one(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(values / (values.mean() or 1.0), dtype=np.float64)
