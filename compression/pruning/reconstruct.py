"""Least squares after a cut: each layer that reads removed channels gets the weights by which it loses least.

The model and its cut copy are computed side by side, call by call, on the same images. What a layer was given before
the cut is predicted, position by position, from what it is given now, as a linear combination of channels and a
constant; in these shares its weights are added up. So a layer makes up for what the layers before it have lost too. The
constant goes into the bias, or into the statistics of batch normalization, which are measured on the way.

He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural Networks", sections 3.1 and 3.2
(https://arxiv.org/abs/1707.06168), solve for the weights by a layer's outputs; predicting its inputs has a closed form
for kernels of any size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.keras_graph import calls, kind, tensor_key
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.weights import Kernel, weight
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.samples import Inputs
from slimcam.compression.pruning.walk import Walk

Float = NDArray[np.float64]

_RIDGE_BEFORE, _RIDGE_NOW = 0.01, 1.0
"""Added to the diagonal of a covariance, as a share of its mean. Losses of the layers before are made up for as far as
they show in many images; what removed channels had in common with kept ones, as it is."""

_LARGEST = 2**28
"""Bytes that a tensor of either model may have: of large images fewer are taken."""

_ROWS = 2**16
"""Positions, of all images, that covariances are taken of."""

_WIDEST = 4096
"""Channels of a tensor, above which a layer that reads it is not changed: a flattened map has one for each position."""


def reconstruct(
    smaller: Any, model: Any, plan: PruningPlan, graph: ChannelGraph, batches: Iterable[Inputs]
) -> list[str]:
    """Changes the weights that read what is left, and the statistics of batch normalization.

    Convolutions of several groups, attention, layers that are called more than once, and those that read more than
    4,096 channels keep their weights.

    Args:
        smaller: what `cut(model, plan, graph)` gave; changed in place.
        model: in normal form, before the cut.
        plan: the channels that stay.
        graph: the model's, from `trace`.
        batches: of inputs, `(N, ...)` each; some hundred images in all.

    Returns:
        The names of the layers that were changed, in the order of computation.

    Raises:
        CompressionError: the model has several inputs.
    """
    readers = {reader.layer.name: reader for reader in _readers(model, graph, graph.kept(plan.kept))}
    images = _some(batches, _bytes(model))
    if not readers or not len(images):
        return []
    before, now = Walk(model, images), Walk(smaller, images)
    for old, new in zip(before.nodes, now.nodes, strict=True):
        reader = readers.get(old.operation.name)
        if reader is not None:
            whole, left = (_rows(walk.given(node)[0], reader.axis) for walk, node in ((before, old), (now, new)))
            _solve(new.operation, reader, whole, left)
        before.compute(old)
        _measured(now, new)
        before.let_go(old)
        now.let_go(new)
    return list(readers)


@dataclass(frozen=True, eq=False)
class _Reader:
    """A layer with one kernel that reads removed channels.

    Attributes:
        layer: Before the cut.
        kernel: The facts of its kernel.
        axis: Axis of the channels in the tensor that it reads.
        stays: `(channels,)` which of them stay.
        written: `(outputs,)` which of the layer's own do.
    """

    layer: Any
    kernel: Kernel
    axis: int
    stays: NDArray[np.bool_]
    written: NDArray[np.bool_]


def _readers(model: Any, graph: ChannelGraph, kept: NDArray[np.bool_]) -> Iterator[_Reader]:
    nodes = calls(model)
    times = Counter(node.operation.name for node in nodes)
    for node in nodes:
        layer, spec = node.operation, layer_spec(node.operation)
        if spec is None or len(spec.kernels) != 1 or len(node.input_tensors) != 1 or times[layer.name] > 1:
            continue
        kernel, channels = spec.kernels[0], graph.tensors[tensor_key(node.input_tensors[0])]
        rank = len(weight(layer, kernel.name).shape)
        read = graph.weights.get((layer.name, kernel.name, kernel.reads % rank))
        made = graph.weights.get((layer.name, kernel.name, kernel.writes[0] % rank))
        if kernel.depthwise or read is None or made is None or not np.array_equal(read, channels.variables):
            continue
        if not kept[read].all() and kept[read].any() and len(read) <= _WIDEST:
            yield _Reader(layer, kernel, channels.axis, kept[read], kept[made])


def _bytes(model: Any) -> int:
    """Of the largest tensor, for one image; sizes that are open count as 1."""
    shapes = [tensor.shape for node in calls(model) for tensor in node.outputs]
    return max(4 * int(np.prod([size or 1 for size in shape[1:]], dtype=np.int64)) for shape in shapes)


def _some(batches: Iterable[Inputs], size: int) -> Inputs:
    """The first images, as many as fit."""
    most, taken = max(1, _LARGEST // size), []
    for batch in batches:
        taken.append(batch)
        if sum(map(len, taken)) >= most:
            break
    return np.concatenate(taken)[:most] if taken else np.empty(0, np.float32)


def _rows(tensor: Any, axis: int) -> Any:
    """Positions of all images, evenly spaced, with their channels, `(positions, channels)`."""
    along = keras.ops.moveaxis(keras.ops.cast(tensor, "float32"), axis, -1)
    rows = keras.ops.reshape(along, (-1, along.shape[-1]))
    return rows[:: -(-int(rows.shape[0]) // _ROWS)]


def _measured(walk: Walk, node: Any) -> None:
    """Computes a call; batch normalization takes the statistics of what it is given."""
    if kind(node.operation) != "BatchNormalization":
        walk.compute(node)
        return
    momentum, node.operation.momentum = node.operation.momentum, 0.0
    try:
        walk.compute(node, training=True)
    finally:
        node.operation.momentum = momentum


def _solve(layer: Any, reader: _Reader, whole: Any, left: Any) -> None:
    """Gives the smaller layer its weights.

    Args:
        whole: `(positions, channels)` that the layer was given before the cut.
        left: of the same positions, what it is given now, `(positions, channels that stay)`.
    """
    stays, kernel = reader.stays, reader.kernel
    shares = _shares(whole, left, stays)
    trained = keras.ops.convert_to_numpy(weight(reader.layer, kernel.name)).astype(np.float64)
    trained = np.moveaxis(trained, (kernel.reads, kernel.writes[0]), (0, -1))[..., reader.written]
    solved = np.tensordot(shares, trained, axes=1)
    weight(layer, kernel.name).assign(np.moveaxis(solved, (0, -1), (kernel.reads, kernel.writes[0])))
    bias = weight(layer, "bias")
    if bias is not None and kernel.reads == -2:  # of a transposed kernel a part of the positions reaches an output
        rest = _array(keras.ops.mean(whole, axis=0)) - _array(keras.ops.mean(left, axis=0)) @ shares
        constant = rest @ trained.reshape(len(rest), -1, trained.shape[-1]).sum(axis=1)
        bias.assign(keras.ops.convert_to_numpy(bias) + constant)


def _shares(whole: Any, left: Any, stays: NDArray[np.bool_]) -> Float:
    """What predicts the channels of before from those of now, `(channels that stay, channels)`."""
    whole, left = (rows - keras.ops.mean(rows, axis=0) for rows in (whole, left))
    before = _array(keras.ops.matmul(keras.ops.transpose(whole), whole))
    shares = _least_squares(before[np.ix_(stays, stays)], before[stays], np.eye(len(stays))[stays], _RIDGE_BEFORE)
    now = keras.ops.transpose(left)
    return _least_squares(_array(keras.ops.matmul(now, left)), _array(keras.ops.matmul(now, whole)), shares, _RIDGE_NOW)


def _least_squares(among: Float, between: Float, known: Float, share: float) -> Float:
    """The solution of `among @ x = between` that stays near a known one, the nearer the larger the share."""
    ridge = max(share * float(np.trace(among)) / len(among), 1e-12)
    return np.asarray(np.linalg.solve(among + ridge * np.eye(len(among)), between + ridge * known))


def _array(tensor: Any) -> Float:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)
