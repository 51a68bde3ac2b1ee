"""Layers with kernels: convolutions and dense layers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from slimcam.compression.layers.activations import activation_spec
from slimcam.compression.layers.spec import Counterpart, LayerSpec
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker, Shape, Variables
from slimcam.compression.layers.weights import Kernel, weight

_CONVOLUTION = Kernel()
_TRANSPOSED = Kernel(reads=-1, writes=(-2,))
_DEPTHWISE = Kernel(writes=(-2, -1), initializer="depthwise_initializer")
_SEPARABLE = (
    Kernel("depthwise_kernel", writes=(-2, -1), initializer="depthwise_initializer"),
    Kernel("pointwise_kernel", initializer="pointwise_initializer"),
)


def dense(tracker: DependencyTracker, call: Call, *, kernel: Kernel = _CONVOLUTION, option: str = "units") -> Channels:
    """Follows channels through a kernel that reads all of them, or of a group, for each that it writes.

    Args:
        option: the layer's option that counts what it writes.
    """
    layer, groups = call.operation, getattr(call.operation, "groups", 1)
    read = tracker.read(call, call.channel_axis)
    if groups > 1 and groups == len(read):
        return _depthwise_by_groups(tracker, call, read, kernel)
    made = tracker.produce(layer, kernel.name, kernel.writes[0])
    if groups > 1:
        # The kernel stays one block where each group of it reads, and writes, as many channels as the others.
        read = read.reshape(groups, -1)
        tracker.balance(read)
        tracker.balance(made.reshape(groups, -1))
    tracker.add_slice(layer, kernel.name, kernel.reads, read, reads=True)
    tracker.add_size(layer, option, made)
    return _output(tracker, call, made)


def _depthwise_by_groups(tracker: DependencyTracker, call: Call, read: Variables, kernel: Kernel) -> Channels:
    """Follows channels through a convolution with a group for each channel."""
    layer = call.operation
    made = np.repeat(read, layer.filters // len(read))
    for axis in kernel.writes:
        tracker.add_slice(layer, kernel.name, axis, made)
    tracker.add_size(layer, "filters", made)
    tracker.add_size(layer, "groups", read)
    return _output(tracker, call, made)


def depthwise(tracker: DependencyTracker, call: Call, *, kernel: Kernel = _DEPTHWISE) -> Channels:
    """Follows channels through a kernel each of whose outputs reads one channel."""
    read = tracker.read(call, call.channel_axis)
    tracker.add_slice(call.operation, kernel.name, kernel.reads, read)
    return _output(tracker, call, np.repeat(read, call.operation.depth_multiplier))


def separable(tracker: DependencyTracker, call: Call) -> Channels:
    """Follows channels through a depthwise kernel and then one that reads all of its outputs."""
    layer, (first, second) = call.operation, _SEPARABLE
    read = tracker.read(call, call.channel_axis)
    made = tracker.produce(layer, second.name, second.writes[0])
    tracker.add_slice(layer, first.name, first.reads, read)
    tracker.add_slice(layer, second.name, second.reads, np.repeat(read, layer.depth_multiplier), reads=True)
    tracker.add_size(layer, "filters", made)
    return _output(tracker, call, made)


def _output(tracker: DependencyTracker, call: Call, variables: Variables) -> Channels:
    """The output of a layer that makes channels: they stay where its own activation mixes them."""
    tracker.add_slice(call.operation, "bias", 0, variables)
    if not activation_spec(call.operation.activation).elementwise:
        tracker.freeze(variables, f"the activation of {call.operation.name} mixes channels")
    return Channels(call.channel_axis, variables)


def _macs_at_output(layer: Any, inputs: tuple[Shape, ...], output: Shape, *, kernels: tuple[Kernel, ...]) -> int:  # noqa: ARG001
    """Each position of the output takes one multiplication by every weight of the kernels."""
    return _positions(layer, output) * sum(_size(layer, kernel) for kernel in kernels)


def _macs_at_input(layer: Any, inputs: tuple[Shape, ...], output: Shape, *, kernels: tuple[Kernel, ...]) -> int:  # noqa: ARG001
    return _positions(layer, inputs[0]) * sum(_size(layer, kernel) for kernel in kernels)


def _positions(layer: Any, shape: Shape) -> int:
    spatial = shape[2:] if getattr(layer, "data_format", None) == "channels_first" else shape[1:-1]
    return math.prod(size or 0 for size in spatial)


def _size(layer: Any, kernel: Kernel) -> int:
    return math.prod(weight(layer, kernel.name).shape)


def _entry(dependencies: Any, *kernels: Kernel, macs: Any = _macs_at_output, keras2: Any = None) -> LayerSpec:
    return LayerSpec(
        dependencies=dependencies,
        macs=partial(macs, kernels=kernels),
        kernels=kernels,
        output_weights=(kernels[-1].name, "bias"),
        keras2=keras2 or Counterpart(),
    )


_CONVOLVES = _entry(partial(dense, option="filters"), _CONVOLUTION)
_TRANSPOSES = _entry(partial(dense, kernel=_TRANSPOSED, option="filters"), _TRANSPOSED, macs=_macs_at_input)
_SEPARATES = _entry(separable, *_SEPARABLE)

LAYERS: dict[str, LayerSpec] = {
    "Dense": _entry(dense, _CONVOLUTION),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _CONVOLVES),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _TRANSPOSES),
    "DepthwiseConv1D": _entry(depthwise, _DEPTHWISE, keras2=Counterpart(weights={"kernel": "depthwise_kernel"})),
    "DepthwiseConv2D": _entry(depthwise, _DEPTHWISE, keras2=Counterpart(weights={"kernel": "depthwise_kernel"})),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _SEPARATES),
}
