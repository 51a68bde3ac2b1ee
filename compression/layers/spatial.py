"""Layers and operations over positions: pooling, padding, resizing, means."""

from __future__ import annotations

from slimcam.compression.layers.spec import Counterpart, LayerSpec, no_macs
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker


def spatial(tracker: DependencyTracker, call: Call) -> Channels:
    """Follows channels through a layer that mixes positions of the same channel."""
    return Channels(call.channel_axis, tracker.read(call, call.channel_axis))


def _global_pooling(tracker: DependencyTracker, call: Call) -> Channels:
    axis = call.channel_axis
    return Channels(axis if call.operation.keepdims else 1, tracker.read(call, axis))


def _reduction(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    channels, operation = call.inputs[0], call.operation
    rank = len(call.input_shapes[0])
    axes = {axis % rank for axis in (range(rank) if operation.axis is None else operation.axis)}
    if channels.axis in axes or 0 in axes:
        return "it reduces over channels"
    dropped = 0 if operation.keepdims else sum(axis < channels.axis for axis in axes)
    return Channels(channels.axis - dropped, channels.variables)


_SPATIAL = LayerSpec(spatial, no_macs, homogeneous=True, keras2=Counterpart())
_GLOBAL = LayerSpec(_global_pooling, no_macs, homogeneous=True, keras2=Counterpart())

LAYERS: dict[str, LayerSpec] = {
    **{
        f"{name}{rank}D": _SPATIAL
        for name in ("AveragePooling", "MaxPooling", "ZeroPadding", "Cropping", "UpSampling")
        for rank in (1, 2, 3)
    },
    **{f"{name}{rank}D": _GLOBAL for name in ("GlobalAveragePooling", "GlobalMaxPooling") for rank in (1, 2, 3)},
    **dict.fromkeys(("ops.Mean", "ops.Sum", "ops.Max", "ops.Min"), LayerSpec(_reduction, no_macs)),
    **{
        f"Adaptive{name}Pooling{rank}D": LayerSpec(spatial, no_macs)
        for name in ("Average", "Max")
        for rank in (1, 2, 3)
    },
    "Resizing": LayerSpec(spatial, no_macs, keras2=Counterpart()),
}
