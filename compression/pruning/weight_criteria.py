"""Criteria that rate channels by the weights alone: a row of values for each slice of weights that computes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.keras_graph import functional
from slimcam.compression.layers.weights import weight
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.groups import Group, WeightSlice
from slimcam.compression.pruning.samples import Samples

Float = NDArray[np.float64]
Values = dict[str, Float]


def l1(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:  # noqa: ARG001
    """The sum of the absolute weights that compute a channel (Li et al. 2017, https://arxiv.org/abs/1608.08710)."""
    return rows(model, graph, lambda filters: np.abs(filters).sum(axis=1))


def l2(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:  # noqa: ARG001
    """The Euclidean norm of the weights that compute a channel."""
    return rows(model, graph, _norms)


def outgoing(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:  # noqa: ARG001
    """The Euclidean norm of the weights that read a channel: what the next layers make of it.

    He et al. 2014, "Reshaping deep neural network for fast decoding by node-pruning" (ICASSP), output-weights norm.
    Behind batch normalization the norm of the weights that compute a channel means nothing; this one does.
    """
    return rows(model, graph, _norms, lambda group: group.reading)


def bn_scale(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:  # noqa: ARG001
    """The absolute scale of batch normalization (Liu et al. 2017, https://arxiv.org/abs/1708.06519).

    Groups that have none are rated by `l2`, which compares with other groups once values are normalized.
    """

    def scales(group: Group) -> list[WeightSlice]:
        return [each for each in group.slices if each.weight == "gamma"] or group.producing

    return rows(model, graph, _norms, scales)


def fpgm(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:  # noqa: ARG001
    """How far a channel's filter is from the others, in sum: the one nearest to their geometric median can be spared.

    He et al. 2019, "Filter Pruning via Geometric Median", https://arxiv.org/abs/1811.00250, eq. 8.
    """

    def distances(filters: Float) -> Float:
        squares = (filters**2).sum(axis=1)
        squared = squares[:, None] + squares[None, :] - 2 * filters @ filters.T
        return np.asarray(np.sqrt(np.maximum(squared, 0)).sum(axis=1))

    return rows(model, graph, distances)


def lamp(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:  # noqa: ARG001
    """A channel's squared norm by those of all channels of its layer that are as large or larger, itself included.

    Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based pruning", https://arxiv.org/abs/2010.07611, eq. 2,
    of channels instead of weights. The values compare between groups as they are.
    """

    def shares(filters: Float) -> Float:
        squares = (filters**2).sum(axis=1)
        order = np.argsort(squares, kind="stable")
        found = np.empty_like(squares)
        beyond = np.cumsum(squares[order][::-1])[::-1]
        found[order] = squares[order] / np.where(beyond > 0, beyond, 1.0)
        return np.asarray(found)

    return rows(model, graph, shares)


def at_random(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:  # noqa: ARG001
    """Uniform random numbers, the control; `keras.utils.set_random_seed` repeats them."""
    return {group.name: np.random.random((1, group.size)) for group in graph.prunable}


def rows(
    model: Any,
    graph: ChannelGraph,
    values: Callable[[Float], Float],
    slices: Callable[[Group], list[WeightSlice]] = lambda group: group.producing,
) -> Values:
    """Values of each prunable group, `(slices, size)`.

    Args:
        values: From the weights of some positions of an axis, `(positions, rest)`, to a value of each, `(positions,)`.
        slices: The slices of weights that speak of a group.
    """
    layers = {layer.name: layer for layer in functional(model).layers}
    found: Values = {}
    for group in graph.prunable:
        chosen = slices(group)
        found[group.name] = np.zeros((len(chosen), group.size))
        for row, each in zip(found[group.name], chosen, strict=True):
            value = keras.ops.convert_to_numpy(weight(layers[each.layer], each.weight))
            row[:] = by_channel(each, values(filters_of(each, value)), group.size)
    return found


def filters_of(each: WeightSlice, value: NDArray[Any]) -> Float:
    """The part of a weight, or of an array of its shape, that belongs to a slice: `(positions, rest)`."""
    if each.block is not None:
        value = value.reshape(*value.shape[:-1], each.blocks, -1)
        along = np.moveaxis(value, (-2, each.axis), (0, 1))[each.block, each.positions]
    else:
        along = np.moveaxis(value, each.axis, 0)[each.positions]
    return along.reshape(len(along), -1).astype(np.float64)


def by_channel(each: WeightSlice, values: Float, size: int) -> Float:
    """Sums the values of a slice's positions by channel: a grouped convolution has one in each of its groups."""
    return np.asarray(np.bincount(each.channels, values, minlength=size), dtype=np.float64)


def _norms(filters: Float) -> Float:
    return np.asarray(np.linalg.norm(filters, axis=1), dtype=np.float64)
