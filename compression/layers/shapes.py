"""Layers and operations that begin a network, join tensors or change their shape."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

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


def _relabeled(tracker: DependencyTracker, labels: Variables) -> Channels | str:
    """The one axis that the labels of the elements depend on.

    Where they depend on several, as those of a channel shuffle do between its two reshapes, channels become one across
    all but the axis that leaves the most of them apart.
    """
    vectors = [np.moveaxis(labels, axis, -1).reshape(-1, size)[0] for axis, size in enumerate(labels.shape)]
    for axis in reversed(range(labels.ndim)):
        if (np.moveaxis(labels, axis, -1) == vectors[axis]).all():
            return Channels(axis + 1, vectors[axis])
    apart = [_apart(labels, axis) for axis in range(labels.ndim)]
    axis = max(reversed(range(labels.ndim)), key=apart.__getitem__)
    if apart[axis] == 1:
        return "it spreads channels over several axes"
    rows = np.unique(np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis]), axis=0)
    for row in rows:
        tracker.unite(vectors[axis], row)
    return Channels(axis + 1, vectors[axis])


def _apart(labels: Variables, axis: int) -> int:
    """How many channels remain if those at the same place of an axis become one."""
    rows = np.unique(np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis]), axis=0)
    parent = {label: label for label in np.unique(rows).tolist()}

    def root(label: int) -> int:
        while parent[label] != label:
            label = parent[label]
        return label

    for column in rows.T.tolist():
        for label in column:
            parent[root(label)] = root(column[0])
    return len({root(label) for label in parent})


def _flatten(tracker: DependencyTracker, call: Call) -> Channels | str:
    labels = _labels(call)
    if labels is None:
        return "its input has no fixed shape"
    if getattr(call.operation, "data_format", None) == "channels_first":
        labels = np.moveaxis(labels, 0, -1)
    return _relabeled(tracker, labels.reshape(-1))


def _reordered(tracker: DependencyTracker, call: Call, *, order: Callable[[Any, Any], Any]) -> Channels:  # noqa: ARG001
    """Follows channels through a change of the order of axes, given as one of an empty array."""
    # The size of each axis is its number.
    axes = order(call.operation, np.empty(range(len(call.output_shape)))).shape
    return Channels(axes.index(call.inputs[0].axis), call.inputs[0].variables)


def _reshape(tracker: DependencyTracker, call: Call) -> Channels | str:
    """Follows channels through `Reshape` and `ops.reshape` of what belongs to one image."""
    labels, output = _labels(call), call.output_shape[1:]
    if labels is None or None in output or labels.size != math.prod(size or 0 for size in output):
        return "its input has no fixed shape"
    channels = _relabeled(tracker, labels.reshape([size or 0 for size in output]))
    if isinstance(channels, Channels):
        operation, of_layer = call.operation, hasattr(call.operation, "target_shape")
        option, index = ("target_shape", channels.axis - 1) if of_layer else ("newshape", channels.axis)
        if getattr(operation, option)[index] != -1:
            tracker.add_size(operation, option, channels.variables, index)
    return channels


def _expand_dims(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    channels, rank = call.inputs[0], len(call.output_shape)
    added = _axes(call.operation.axis, rank)
    return Channels([axis for axis in range(rank) if axis not in added][channels.axis], channels.variables)


def _squeeze(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    channels, shape = call.inputs[0], call.input_shapes[0]
    axes = call.operation.axis
    gone = {axis for axis, size in enumerate(shape) if size == 1} if axes is None else _axes(axes, len(shape))
    if channels.axis in gone:
        return "it takes the axis of the channels away"
    return Channels(channels.axis - sum(axis < channels.axis for axis in gone), channels.variables)


def _axes(axes: object, rank: int) -> set[int]:
    return {int(axis) % rank for axis in np.atleast_1d(np.asarray(axes))}


def _pad(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    channels, width = call.inputs[0], call.operation.pad_width
    padded = len(width) > channels.axis and any(width[channels.axis])
    return "it pads channels" if padded or len(width) == 1 else channels


def _repeat_vector(tracker: DependencyTracker, call: Call) -> Channels:  # noqa: ARG001
    return Channels(2, call.inputs[0].variables)


def _stack(tracker: DependencyTracker, call: Call) -> Channels | str:
    first = call.inputs[0]
    if any(channels.axis != first.axis for channels in call.inputs):
        return "its inputs have their channels on different axes"
    for other in call.inputs[1:]:
        tracker.unite(first.variables, other.variables)
    axis = call.operation.axis % len(call.output_shape)
    return Channels(first.axis + (axis <= first.axis), first.variables)


def _unstack(tracker: DependencyTracker, call: Call) -> tuple[Channels, ...] | str:  # noqa: ARG001
    channels = call.inputs[0]
    axis = call.operation.axis % len(call.input_shapes[0])
    if axis == channels.axis:
        return "it takes the axis of the channels away"
    found = Channels(channels.axis - (axis < channels.axis), channels.variables)
    return (found,) * len(call.output_shapes)


def _split(tracker: DependencyTracker, call: Call) -> tuple[Channels, ...] | str:
    """Follows channels into the outputs of a split, each of which keeps some."""
    channels, operation = call.inputs[0], call.operation
    axis = operation.axis % len(call.input_shapes[0])
    if axis != channels.axis:
        return (channels,) * len(call.output_shapes)
    sizes = [shape[axis] or 0 for shape in call.output_shapes]
    borders = np.cumsum(sizes)[:-1]
    outputs = np.split(channels.variables, borders)
    if 0 in sizes:
        return "it has an output without channels"
    for number, border in enumerate(borders):
        tracker.add_size(operation, "indices_or_sections", channels.variables[:border], number)
    for output in outputs:
        tracker.keep_some(output)
    return tuple(Channels(axis, output) for output in outputs)


def _item(tracker: DependencyTracker, call: Call) -> Channels | str:
    """Follows channels through `x[...]`; a range of channels keeps some of them."""
    channels, shape = call.inputs[0], call.input_shapes[0]
    keys = _full_key(call.positional[1], len(shape))
    place = [place for place, key in enumerate(keys) if key is not None][channels.axis]
    key = keys[place]
    target = sum(each is None or isinstance(each, slice) for each in keys[:place])
    if not isinstance(key, slice):
        return "it takes the axis of the channels away"
    if key == slice(None):
        return Channels(target, channels.variables)
    start, stop, step = key.indices(shape[channels.axis] or 0)
    if step != 1 or stop <= start:
        return "it takes channels in steps"
    tracker.add_size(call.operation, "start", channels.variables[:start], place)
    tracker.add_size(call.operation, "stop", channels.variables[:stop], place)
    tracker.keep_some(channels.variables[start:stop])
    return Channels(target, channels.variables[start:stop])


def _full_key(key: Any, rank: int) -> list[Any]:
    """An index with an entry for each axis, and None for each new one."""
    keys = list(key) if isinstance(key, (tuple, list)) else [key]
    place = next((place for place, each in enumerate(keys) if each is Ellipsis), len(keys))
    named = sum(each is not None and each is not Ellipsis for each in keys)
    return [*keys[:place], *[slice(None)] * (rank - named), *keys[place + 1 :]]


def _item_arguments(counts: Mapping[tuple[str, int | None], int], positional: tuple[Any, ...]) -> tuple[Any, ...]:
    tensor, key = positional
    keys = _full_key(key, len(tensor.shape))
    for (bound, place), count in counts.items():
        if bound == "start" and place is not None:
            keys[place] = slice(count, counts["stop", place])
    return tensor, tuple(keys)


LAYERS: dict[str, LayerSpec] = {
    "InputLayer": LayerSpec(_input, no_macs),
    "Concatenate": LayerSpec(_concatenation, no_macs, keras2=Counterpart()),
    "ops.Concatenate": LayerSpec(_concatenation, no_macs),
    "Flatten": LayerSpec(_flatten, no_macs, keras2=Counterpart()),
    "Permute": LayerSpec(
        partial(_reordered, order=lambda layer, x: np.transpose(x, (0, *layer.dims))), no_macs, keras2=Counterpart()
    ),
    "RepeatVector": LayerSpec(_repeat_vector, no_macs, keras2=Counterpart()),
    "Reshape": LayerSpec(_reshape, no_macs, keras2=Counterpart()),
    "ops.Reshape": LayerSpec(_reshape, no_macs),
    "ops.Transpose": LayerSpec(partial(_reordered, order=lambda given, x: np.transpose(x, given.axes)), no_macs),
    "ops.Moveaxis": LayerSpec(
        partial(_reordered, order=lambda given, x: np.moveaxis(x, given.source, given.destination)), no_macs
    ),
    "ops.Swapaxes": LayerSpec(
        partial(_reordered, order=lambda given, x: np.swapaxes(x, given.axis1, given.axis2)), no_macs
    ),
    "ops.ExpandDims": LayerSpec(_expand_dims, no_macs),
    "ops.Squeeze": LayerSpec(_squeeze, no_macs),
    "ops.Pad": LayerSpec(_pad, no_macs),
    "ops.Stack": LayerSpec(_stack, no_macs),
    "ops.Unstack": LayerSpec(_unstack, no_macs),
    "ops.Split": LayerSpec(_split, no_macs),
    "ops.GetItem": LayerSpec(_item, no_macs, keras2=lambda _operation: operator.getitem, arguments=_item_arguments),
}
