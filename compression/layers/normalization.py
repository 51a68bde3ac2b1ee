"""Layers that normalize or rescale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.layers.elementwise import same_channels
from slimcam.compression.layers.spec import Counterpart, LayerSpec, no_macs
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker


def _batch_normalization(tracker: DependencyTracker, call: Call) -> Channels:
    axis = call.operation.axis % len(call.output_shape)
    variables = tracker.read(call, axis)
    for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
        tracker.add_slice(call.operation, weight, 0, variables)
    return Channels(axis, variables)


def _over_channels(tracker: DependencyTracker, call: Call) -> Channels:
    """Follows channels through a layer with weights along the axes over which it normalizes."""
    channels, layer = call.inputs[0], call.operation
    axes = [axis % len(call.output_shape) for axis in np.atleast_1d(layer.axis).tolist()]
    if channels.axis in axes:
        for weight in ("gamma", "beta", "scale"):
            tracker.add_slice(layer, weight, axes.index(channels.axis), channels.variables)
    return channels


def _group_normalization(tracker: DependencyTracker, call: Call) -> Channels:
    layer = call.operation
    axis = layer.axis % len(call.output_shape)
    variables = tracker.read(call, axis)
    for weight in ("gamma", "beta"):
        tracker.add_slice(layer, weight, 0, variables)
    if layer.groups == len(variables):
        tracker.add_size(layer, "groups", variables)
    elif layer.groups > 1:
        tracker.balance(variables.reshape(layer.groups, -1))
    return Channels(axis, variables)


def _masked(layer: Any, stays: NDArray[np.bool_], axis: int) -> Callable[[Any], Any]:
    """Layer or root-mean-square normalization over the channels that stay; the others are zero before."""

    def call(x: Any) -> Any:
        axes = [each % len(x.shape) for each in np.atleast_1d(layer.axis).tolist()]
        if axis not in axes:
            return layer(x)
        along = keras.ops.reshape(stays.astype("float32"), _shape(x, [axis]))
        if isinstance(layer, keras.layers.RMSNormalization):
            return _scaled(x, axes, stays.mean(), layer.epsilon) * keras.ops.reshape(layer.scale, _shape(x, axes))
        normal = _scaled(_centered(x, axes, along), axes, stays.mean(), layer.epsilon)
        return _affine(layer, normal, _shape(x, axes))

    return call


def _masked_groups(layer: Any, stays: NDArray[np.bool_], axis: int) -> Callable[[Any], Any]:
    """Group normalization over the channels that stay, as many in each group."""

    def call(x: Any) -> Any:
        if layer.groups == x.shape[axis]:
            return layer(x)
        # The axis of the groups goes before that of the channels of a group.
        split = [-1, *x.shape[1:axis], layer.groups, x.shape[axis] // layer.groups, *x.shape[axis + 1 :]]
        axes = [each for each in range(1, len(split)) if each != axis]
        y = keras.ops.reshape(x, split)
        shape = [1] * len(split)
        shape[axis : axis + 2] = split[axis : axis + 2]
        along = keras.ops.reshape(stays.astype("float32"), shape)
        normal = _scaled(_centered(y, axes, along), axes, stays.mean(), layer.epsilon)
        return _affine(layer, keras.ops.reshape(normal, (-1, *x.shape[1:])), _shape(x, [axis]))

    return call


def _shape(x: Any, axes: Sequence[int]) -> list[int]:
    return [size if axis in axes else 1 for axis, size in enumerate(x.shape)]


def _centered(x: Any, axes: Sequence[int], stays: Any) -> Any:
    count = keras.ops.sum(stays * keras.ops.ones_like(x), axes, keepdims=True)
    return (x - keras.ops.sum(x, axes, keepdims=True) / count) * stays


def _scaled(x: Any, axes: Sequence[int], share: float, epsilon: float) -> Any:
    power = keras.ops.mean(keras.ops.square(x), axes, keepdims=True) / share
    return x * keras.ops.rsqrt(power + epsilon)


def _affine(layer: Any, x: Any, shape: Sequence[int]) -> Any:
    x = x * keras.ops.reshape(layer.gamma, shape) if layer.scale else x
    return x + keras.ops.reshape(layer.beta, shape) if layer.center else x


def _normalization(tracker: DependencyTracker, call: Call) -> Channels:
    """Passes channels on as they are: the layer's statistics, one for each, were set when it was made."""
    tracker.freeze(call.inputs[0].variables, f"{call.operation.name} has statistics of each channel")
    return call.inputs[0]


def _layer_scale(tracker: DependencyTracker, call: Call) -> Channels:
    """Follows channels through the factors of a ConvNeXt block, one for each channel."""
    channels = Channels(call.channel_axis, tracker.read(call, call.channel_axis))
    tracker.add_slice(call.operation, "gamma", 0, channels.variables)
    tracker.add_size(call.operation, "projection_dim", channels.variables)
    return channels


def _rescaling(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    uniform = np.size(call.operation.scale) == 1 and np.size(call.operation.offset) == 1
    return call.inputs[0] if uniform else "its configuration has one entry per channel"


LAYERS: dict[str, LayerSpec] = {
    "BatchNormalization": LayerSpec(
        _batch_normalization, no_macs, output_weights=("gamma", "beta"), keras2=Counterpart()
    ),
    "LayerNormalization": LayerSpec(_over_channels, no_macs, keras2=Counterpart(), masked=_masked),
    "RMSNormalization": LayerSpec(_over_channels, no_macs, masked=_masked),
    "GroupNormalization": LayerSpec(_group_normalization, no_macs, keras2=Counterpart(), masked=_masked_groups),
    "UnitNormalization": LayerSpec(same_channels, no_macs, keras2=Counterpart()),
    "LayerScale": LayerSpec(_layer_scale, no_macs),
    "Normalization": LayerSpec(_normalization, no_macs, keras2=Counterpart()),
    "Rescaling": LayerSpec(_rescaling, no_macs, keras2=Counterpart()),
}
