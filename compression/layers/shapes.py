"""Layers and operations that begin a network, join tensors or change their shape."""

from __future__ import annotations

import operator

import numpy as np

from slimcam.compression.layers.spec import Counterpart, LayerSpec, no_macs
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker, Variables


def _input(tracker: DependencyTracker, call: Call) -> Channels:
    axis = len(call.output_shape) - 1
    size = (call.output_shape[axis] or 0) if axis > 0 else 0
    return Channels(axis, tracker.new_frozen(call.operation.name, size, "model input"))


def _concatenation(tracker: DependencyTracker, call: Call) -> Channels | str:
    axis = call.operation.axis % len(call.output_shape)
    axes = {channels.axis for channels in call.inputs}
    if len(axes) != 1:
        return "its inputs have their channels on different axes"
    vectors = [channels.variables for channels in call.inputs]
    if axes == {axis}:
        return Channels(axis, np.concatenate(vectors))
    for other in vectors[1:]:
        tracker.unite(vectors[0], other)
    return Channels(axes.pop(), vectors[0])


def _labels(call: Call) -> Variables | None:
    """The variable of every element of the first input, without the batch axis; None where the shape is open."""
    channels, shape = call.inputs[0], call.input_shapes[0]
    if None in shape[1:]:
        return None
    along = [-1 if axis == channels.axis else 1 for axis in range(1, len(shape))]
    return np.broadcast_to(channels.variables.reshape(along), [size or 0 for size in shape[1:]])


def _relabeled(labels: Variables) -> Channels | str:
    """The one axis that the labels of the elements depend on."""
    for axis in reversed(range(labels.ndim)):
        vector = labels[tuple(slice(None) if other == axis else 0 for other in range(labels.ndim))]
        if (np.moveaxis(labels, axis, -1) == vector).all():
            return Channels(axis + 1, vector)
    return "it spreads channels over several axes"


def _flatten(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    labels = _labels(call)
    if labels is None:
        return "its input has no fixed shape"
    if call.operation.data_format == "channels_first":
        labels = np.moveaxis(labels, 0, -1)
    return _relabeled(labels.reshape(-1))


def _permute(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    channels = call.inputs[0]
    return Channels(1 + call.operation.dims.index(channels.axis), channels.variables)


def _reshape(tracker: DependencyTracker, call: Call) -> Channels | str:
    labels = _labels(call)
    if labels is None:
        return "its input has no fixed shape"
    channels = _relabeled(labels.reshape([size or 0 for size in call.output_shape[1:]]))
    target = tuple(call.operation.target_shape)
    if isinstance(channels, Channels) and target[channels.axis - 1] != -1:
        tracker.add_size(call.operation, "target_shape", channels.variables, channels.axis - 1)
    return channels


LAYERS: dict[str, LayerSpec] = {
    "InputLayer": LayerSpec(_input, no_macs),
    "Concatenate": LayerSpec(_concatenation, no_macs, keras2=Counterpart()),
    "ops.Concatenate": LayerSpec(_concatenation, no_macs),
    "Flatten": LayerSpec(_flatten, no_macs, keras2=Counterpart()),
    "Permute": LayerSpec(_permute, no_macs, keras2=Counterpart()),
    "Reshape": LayerSpec(_reshape, no_macs, keras2=Counterpart()),
    "ops.GetItem": LayerSpec(macs=no_macs, keras2=lambda _operation: operator.getitem),
}
