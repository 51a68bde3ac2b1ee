"""Criteria that rate channels by what they hold on real inputs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.keras_graph import calls, kind, tensor_key
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.samples import Inputs, Samples, inputs_of
from slimcam.compression.pruning.walk import Walk

Float = NDArray[np.float64]
Values = dict[str, Float]

_ACTIVATIONS = ("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU")


def activation(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:
    """The mean absolute activation of a channel (Molchanov et al. 2017, https://arxiv.org/abs/1611.06440, section 2.2).

    A row for each activation that follows; where none does, for each layer that makes the channel.
    """
    return _means(model, graph, inputs_of(samples, "activation"), lambda values: keras.ops.abs(values))


def apoz(model: Any, graph: ChannelGraph, samples: Samples | None = None) -> Values:
    """The share of activations that are above zero: one less their average percentage of zeros.

    Hu et al. 2016, "Network Trimming", https://arxiv.org/abs/1607.03250, eq. 1. Rows as for `activation`.
    """
    return _means(model, graph, inputs_of(samples, "apoz"), lambda values: keras.ops.cast(values > 0, "float32"))


def _means(model: Any, graph: ChannelGraph, batches: Iterator[Inputs], value: Callable[[Any], Any]) -> Values:
    """The mean of a function of the channels of each tensor that a group is rated by, over positions and samples."""
    rated = _rated_by(model, graph)
    wanted = {key for found in rated.values() for key in found}
    sums: dict[str, Any] = defaultdict(float)
    count = 0
    for inputs in batches:
        count += len(inputs)
        for key, tensor in _tensors(model, inputs):
            if key in wanted:
                others = [axis for axis in range(len(tensor.shape)) if axis != graph.tensors[key].axis]
                found = keras.ops.convert_to_numpy(keras.ops.mean(value(tensor), axis=others))
                sums[key] += len(inputs) * found.astype(np.float64)
    rows: Values = {}
    for group in graph.prunable:
        channel = {int(variable): index for index, variable in enumerate(group.variables)}
        rows[group.name] = np.zeros((len(rated[group.name]), group.size))
        for row, key in zip(rows[group.name], rated[group.name], strict=True):
            for variable, mean in zip(graph.tensors[key].variables.tolist(), sums[key] / count, strict=True):
                if variable in channel:
                    row[channel[variable]] = max(row[channel[variable]], mean)
    return rows


def _rated_by(model: Any, graph: ChannelGraph) -> Mapping[str, list[str]]:
    """The tensors, by key, that each prunable group is rated by."""
    group_of = {int(variable): group.name for group in graph.prunable for variable in group.variables}
    makers = {group.name: set(group.producers) for group in graph.prunable}
    activated: dict[str, list[str]] = defaultdict(list)
    made: dict[str, list[str]] = defaultdict(list)
    for node in calls(model):
        for tensor in node.outputs:
            key = tensor_key(tensor)
            groups = {group_of[variable] for variable in graph.tensors[key].variables.tolist() if variable in group_of}
            for name in groups:
                if _activates(node.operation):
                    activated[name].append(key)
                if node.operation.name in makers[name]:
                    made[name].append(key)
    return {group.name: activated[group.name] or made[group.name] for group in graph.prunable}


def _activates(operation: Any) -> bool:
    function = getattr(operation, "activation", keras.activations.linear)
    return kind(operation) in _ACTIVATIONS or function not in (None, keras.activations.linear)


def _tensors(model: Any, inputs: Inputs) -> Iterator[tuple[str, Any]]:
    """The tensors of a model on a batch, by key, each let go when all its readers have had it."""
    walk = Walk(model, inputs)
    for node in walk.nodes:
        for tensor, value in zip(node.outputs, walk.compute(node), strict=True):
            yield tensor_key(tensor), value
        walk.let_go(node)
