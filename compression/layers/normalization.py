"""Layers that normalize or rescale."""

from __future__ import annotations

import numpy as np

from slimcam.compression.layers.spec import Counterpart, LayerSpec, no_macs
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker


def _batch_normalization(tracker: DependencyTracker, call: Call) -> Channels:
    axis = call.operation.axis % len(call.output_shape)
    variables = tracker.read(call, axis)
    for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
        tracker.add_slice(call.operation, weight, 0, variables)
    return Channels(axis, variables)


def _rescaling(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    uniform = np.size(call.operation.scale) == 1 and np.size(call.operation.offset) == 1
    return call.inputs[0] if uniform else "its configuration has one entry per channel"


LAYERS: dict[str, LayerSpec] = {
    "BatchNormalization": LayerSpec(
        _batch_normalization, no_macs, output_weights=("gamma", "beta"), keras2=Counterpart()
    ),
    "LayerNormalization": LayerSpec(macs=no_macs, keras2=Counterpart()),
    "GroupNormalization": LayerSpec(macs=no_macs, keras2=Counterpart()),
    "UnitNormalization": LayerSpec(macs=no_macs, keras2=Counterpart()),
    "Normalization": LayerSpec(macs=no_macs, keras2=Counterpart()),
    "Rescaling": LayerSpec(_rescaling, no_macs, keras2=Counterpart()),
}
