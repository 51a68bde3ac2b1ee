"""Layers and operations that work on each element by itself: activations, dropout, sums and gates."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from slimcam.compression.layers.activations import activation_spec
from slimcam.compression.layers.spec import Counterpart, LayerSpec, no_macs
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker


def same_channels(tracker: DependencyTracker, call: Call) -> Channels:  # noqa: ARG001
    """Follows channels through a layer that leaves them where they are."""
    return call.inputs[0]


def _activation(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    return call.inputs[0] if activation_spec(call.operation.activation).elementwise else "it mixes channels"


def _softmax(tracker: DependencyTracker, call: Call) -> Channels | str:  # noqa: ARG001
    axes = call.operation.axis if isinstance(call.operation.axis, (list, tuple)) else [call.operation.axis]
    mixed = call.inputs[0].axis in {axis % len(call.output_shape) for axis in axes}
    return "it mixes channels" if mixed else call.inputs[0]


def _prelu(tracker: DependencyTracker, call: Call) -> Channels:
    channels = call.inputs[0]
    if channels.axis not in (call.operation.shared_axes or ()):
        tracker.add_slice(call.operation, "alpha", channels.axis - 1, channels.variables)
    return channels


def gate(tracker: DependencyTracker, call: Call) -> Channels | str:
    """Follows channels through a product or quotient of tensors, element by element."""
    channels = _united(tracker, call)
    return channels if isinstance(channels, str) else channels[0]


def merge(tracker: DependencyTracker, call: Call) -> Channels | str:
    """Follows channels through a sum or another merge of equals, which forms a residual stream."""
    channels = _united(tracker, call)
    if isinstance(channels, str):
        return channels
    if channels[1] > 1:
        tracker.merged.append(channels[0].variables)
    return channels[0]


def _united(tracker: DependencyTracker, call: Call) -> tuple[Channels, int] | str:
    """The channels of the output, and how many inputs have all of them: the others are broadcast."""
    if len(call.constants) > 1 or any(math.prod(getattr(value, "shape", ())) > 1 for value in call.constants):
        return "a constant in it may differ by channel"
    rank = len(call.output_shape)
    # Tensors of a lower rank are broadcast from the left.
    axes = {channels.axis + rank - len(shape) for channels, shape in zip(call.inputs, call.input_shapes, strict=True)}
    if len(axes) != 1:
        return "its inputs have their channels on different axes"
    axis = axes.pop()
    full = [channels.variables for channels in call.inputs if len(channels.variables) == call.output_shape[axis]]
    for channels in call.inputs:
        if len(channels.variables) != call.output_shape[axis]:
            tracker.freeze(channels.variables, f"{call.operation.name} spreads one channel over all")
    for other in full[1:]:
        tracker.unite(full[0], other)
    return Channels(axis, full[0]), len(full)


def _relu_is_homogeneous(layer: Any) -> bool:
    return not layer.threshold


def _relu_limit(layer: Any) -> float | None:
    return None if layer.max_value is None else float(layer.max_value)


def _activation_is_homogeneous(layer: Any) -> bool:
    return activation_spec(layer.activation).homogeneous


def _arithmetic(function: Callable[..., Any]) -> Callable[[Any], Callable[..., Any]]:
    """Keras 2 computes with its tensors as Python does with numbers."""
    return lambda _operation: function


_ELEMENTWISE = LayerSpec(same_channels, no_macs, keras2=Counterpart())
_PASSING = LayerSpec(same_channels, no_macs, homogeneous=True, keras2=Counterpart())
_MERGING = LayerSpec(merge, no_macs, homogeneous=True, keras2=Counterpart())
_OPERATION = LayerSpec(same_channels, no_macs)

LAYERS: dict[str, LayerSpec] = {
    "Activation": LayerSpec(_activation, no_macs, homogeneous=_activation_is_homogeneous, keras2=Counterpart()),
    "ReLU": LayerSpec(
        same_channels, no_macs, homogeneous=_relu_is_homogeneous, limit=_relu_limit, keras2=Counterpart()
    ),
    "LeakyReLU": LayerSpec(
        same_channels, no_macs, homogeneous=True, keras2=Counterpart(options={"alpha": "negative_slope"})
    ),
    "PReLU": LayerSpec(_prelu, no_macs, homogeneous=True, keras2=Counterpart()),
    "Softmax": LayerSpec(_softmax, no_macs, keras2=Counterpart()),
    **dict.fromkeys(("ELU", "ActivityRegularization"), _ELEMENTWISE),
    **dict.fromkeys(("AlphaDropout", "GaussianDropout", "GaussianNoise", "SpatialDropout3D"), _ELEMENTWISE),
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D"), _PASSING),
    "Identity": _PASSING,
    "StochasticDepth": LayerSpec(same_channels, no_macs, homogeneous=True),
    "CustomScaleLayer": LayerSpec(merge, no_macs, homogeneous=True),
    **dict.fromkeys(("Add", "Average", "Maximum", "Minimum", "Subtract"), _MERGING),
    "Multiply": LayerSpec(gate, no_macs, keras2=Counterpart()),
    "ops.Add": LayerSpec(merge, no_macs, keras2=_arithmetic(operator.add)),
    "ops.Subtract": LayerSpec(merge, no_macs, keras2=_arithmetic(operator.sub)),
    "ops.Multiply": LayerSpec(gate, no_macs, keras2=_arithmetic(operator.mul)),
    "ops.Divide": LayerSpec(gate, no_macs, keras2=_arithmetic(operator.truediv)),
    "ops.TrueDivide": LayerSpec(gate, no_macs, keras2=_arithmetic(operator.truediv)),
    **dict.fromkeys(("ops.Maximum", "ops.Minimum"), LayerSpec(merge, no_macs)),
    **dict.fromkeys(("ops.Softmax", "ops.LogSoftmax"), LayerSpec(_softmax, no_macs)),
    **dict.fromkeys(
        (
            *("ops.Relu", "ops.Relu6", "ops.LeakyRelu", "ops.Elu", "ops.Selu", "ops.Gelu", "ops.Silu", "ops.Sigmoid"),
            *("ops.HardSigmoid", "ops.HardSilu", "ops.Softplus", "ops.Softsign", "ops.Tanh", "ops.Negative"),
            *("ops.Celu", "ops.HardShrink", "ops.HardTanh", "ops.LogSigmoid", "ops.SoftShrink", "ops.SparsePlus"),
            *("ops.SparseSigmoid", "ops.Squareplus", "ops.TanhShrink", "ops.Threshold"),
            *("ops.Abs", "ops.Absolute", "ops.Square", "ops.Sqrt", "ops.Rsqrt", "ops.Exp", "ops.Expm1", "ops.Log"),
            *("ops.Log1p", "ops.Reciprocal", "ops.Sign", "ops.Sin", "ops.Cos", "ops.Floor", "ops.Ceil", "ops.Round"),
            *("ops.Clip", "ops.Cast", "ops.Normalize"),
        ),
        _OPERATION,
    ),
}
