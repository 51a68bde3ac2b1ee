"""How each kind of layer couples the channels that it reads to those that it writes: one handler per kind.

A handler gets a `Ledger`, where it books what it knows, and the `Call` in question. It returns the channels of the
output, or, as a string, the reason why they cannot be followed; then the inputs' channels are frozen. To support
another layer write a handler and enter it in `HANDLERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Variables = NDArray[np.int64]
Shape = tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class Channels:
    """The channel axis of a tensor and the variable of each channel, `(size,)`; none where the size is unknown."""

    axis: int
    variables: Variables


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation: shapes with the batch axis, and arguments that are not tensors of the model."""

    operation: Any
    inputs: tuple[Channels, ...]
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    constants: tuple[Any, ...] = ()


@dataclass
class Ledger:
    """What the handlers book: which variables exist, what carries them, which are one, and which must stay.

    Attributes:
        owners: for each variable the layer that made it.
        weights: variables along (layer, weight, axis).
        producing: those of `weights` whose slices compute the channel.
        sizes: variables counted by (layer, configuration key, index in a tuple or None): a Conv2D's `filters`, say.
        united: pairs of vectors that are one, element by element.
        merged: variables that a sum (or another merge of equals) forms: a stream with several writers.
        frozen: variables that must stay, and why.
    """

    owners: list[str] = field(default_factory=list)
    weights: dict[tuple[str, str, int], Variables] = field(default_factory=dict)
    producing: set[tuple[str, str, int]] = field(default_factory=set)
    sizes: dict[tuple[str, str, int | None], Variables] = field(default_factory=dict)
    united: list[tuple[Variables, Variables]] = field(default_factory=list)
    merged: list[Variables] = field(default_factory=list)
    frozen: list[tuple[Variables, str]] = field(default_factory=list)

    def new(self, owner: str, size: int) -> Variables:
        start = len(self.owners)
        self.owners.extend([owner] * size)
        return np.arange(start, start + size, dtype=np.int64)

    def new_frozen(self, owner: str, size: int, reason: str) -> Variables:
        variables = self.new(owner, size)
        self.freeze(variables, reason)
        return variables

    def produce(self, layer: Any, weight: str, axis: int, size: int) -> Variables:
        """New variables computed by a weight; the same ones at each call of a shared layer."""
        key = (layer.name, weight, axis)
        if key not in self.weights:
            self.weights[key] = self.new(layer.name, size)
            self.producing.add(key)
        return self.weights[key]

    def carry(self, layer: Any, weight: str, axis: int, variables: Variables) -> None:
        """Books the variables along a weight's axis, if the layer has the weight; further calls unite theirs."""
        if weight in {variable.name for variable in layer.weights}:
            self.unite(self.weights.setdefault((layer.name, weight, axis), variables), variables)

    def count(self, layer: Any, key: str, variables: Variables, index: int | None = None) -> None:
        """Books that a configuration entry is the number of these variables; further calls unite theirs."""
        self.unite(self.sizes.setdefault((layer.name, key, index), variables), variables)

    def unite(self, left: Variables, right: Variables) -> None:
        if left is not right:
            self.united.append((left, right))

    def freeze(self, variables: Variables, reason: str) -> None:
        self.frozen.append((variables, reason))

    def read(self, call: Call, axis: int) -> Variables:
        """Variables of the first input along `axis`: frozen ones where its channels lie on another axis."""
        channels, name = call.inputs[0], call.operation.name
        if channels.axis == axis:
            return channels.variables
        reason = f"{name} works along axis {axis}, the channels lie on axis {channels.axis}"
        self.freeze(channels.variables, reason)
        return self.new_frozen(f"{name}:input", call.input_shapes[0][axis] or 0, reason)


Handler = Callable[[Ledger, Call], "Channels | str"]

# Activations that map each element by itself; with any other the channels of an output depend on each other.
ELEMENTWISE = frozenset(
    (
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "threshold", "tanh"),
        *("sigmoid", "hard_sigmoid", "log_sigmoid", "sparse_sigmoid", "softplus", "softsign", "squareplus"),
        *("sparse_plus", "exponential", "hard_tanh", "hard_silu", "soft_shrink", "hard_shrink", "tanh_shrink"),
    )
)


def _is_elementwise(activation: Any) -> bool:
    module = getattr(activation, "__module__", "") or ""
    return module.startswith("keras.") and getattr(activation, "__name__", "") in ELEMENTWISE


def _channel_axis(call: Call) -> int:
    """Where the layer expects the channels, by its data format."""
    return 1 if getattr(call.operation, "data_format", None) == "channels_first" else len(call.input_shapes[0]) - 1


def _produced(ledger: Ledger, call: Call, variables: Variables, axis: int) -> Channels:
    """The output of a layer that makes channels: they stay where its own activation mixes them."""
    ledger.carry(call.operation, "bias", 0, variables)
    if not _is_elementwise(call.operation.activation):
        ledger.freeze(variables, f"the activation of {call.operation.name} mixes channels")
    return Channels(axis, variables)


def _input(ledger: Ledger, call: Call) -> Channels:
    axis = len(call.output_shape) - 1
    size = (call.output_shape[axis] or 0) if axis > 0 else 0
    return Channels(axis, ledger.new_frozen(call.operation.name, size, "model input"))


def _convolution(ledger: Ledger, call: Call) -> Channels:
    layer, axis = call.operation, _channel_axis(call)
    # Groups keep the same channels each, so that the kernel stays one block: theirs are united across groups.
    read = ledger.read(call, axis).reshape(layer.groups, -1)
    rank = len(layer.kernel_size)
    made = ledger.produce(layer, "kernel", rank + 1, layer.filters)
    for group in read[1:]:
        ledger.unite(read[0], group)
    for group in made.reshape(layer.groups, -1)[1:]:
        ledger.unite(made[: len(group)], group)
    ledger.carry(layer, "kernel", rank, read[0])
    ledger.count(layer, "filters", made)
    return _produced(ledger, call, made, axis)


def _transposed_convolution(ledger: Ledger, call: Call) -> Channels:
    layer, axis = call.operation, _channel_axis(call)
    rank = len(layer.kernel_size)
    made = ledger.produce(layer, "kernel", rank, layer.filters)
    ledger.carry(layer, "kernel", rank + 1, ledger.read(call, axis))
    ledger.count(layer, "filters", made)
    return _produced(ledger, call, made, axis)


def _depthwise_convolution(ledger: Ledger, call: Call) -> Channels:
    layer, axis = call.operation, _channel_axis(call)
    read = ledger.read(call, axis)
    ledger.carry(layer, "kernel", len(layer.kernel_size), read)
    return _produced(ledger, call, np.repeat(read, layer.depth_multiplier), axis)


def _separable_convolution(ledger: Ledger, call: Call) -> Channels:
    layer, axis = call.operation, _channel_axis(call)
    rank, read = len(layer.kernel_size), ledger.read(call, axis)
    made = ledger.produce(layer, "pointwise_kernel", rank + 1, layer.filters)
    ledger.carry(layer, "depthwise_kernel", rank, read)
    ledger.carry(layer, "pointwise_kernel", rank, np.repeat(read, layer.depth_multiplier))
    ledger.count(layer, "filters", made)
    return _produced(ledger, call, made, axis)


def _dense(ledger: Ledger, call: Call) -> Channels:
    layer, axis = call.operation, len(call.output_shape) - 1
    made = ledger.produce(layer, "kernel", 1, layer.units)
    ledger.carry(layer, "kernel", 0, ledger.read(call, axis))
    ledger.count(layer, "units", made)
    return _produced(ledger, call, made, axis)


def _batch_normalization(ledger: Ledger, call: Call) -> Channels:
    axis = call.operation.axis % len(call.output_shape)
    variables = ledger.read(call, axis)
    for weight in ("gamma", "beta", "moving_mean", "moving_variance"):
        ledger.carry(call.operation, weight, 0, variables)
    return Channels(axis, variables)


def _prelu(ledger: Ledger, call: Call) -> Channels:
    channels = call.inputs[0]
    if channels.axis not in (call.operation.shared_axes or ()):
        ledger.carry(call.operation, "alpha", channels.axis - 1, channels.variables)
    return channels


def _same(ledger: Ledger, call: Call) -> Channels:  # noqa: ARG001
    return call.inputs[0]


def _activation(ledger: Ledger, call: Call) -> Channels | str:  # noqa: ARG001
    return call.inputs[0] if _is_elementwise(call.operation.activation) else "it mixes channels"


def _softmax(ledger: Ledger, call: Call) -> Channels | str:  # noqa: ARG001
    axes = call.operation.axis if isinstance(call.operation.axis, (list, tuple)) else [call.operation.axis]
    mixed = call.inputs[0].axis in {axis % len(call.output_shape) for axis in axes}
    return "it mixes channels" if mixed else call.inputs[0]


def _rescaling(ledger: Ledger, call: Call) -> Channels | str:  # noqa: ARG001
    uniform = np.size(call.operation.scale) == 1 and np.size(call.operation.offset) == 1
    return call.inputs[0] if uniform else "its configuration has one entry per channel"


def _spatial(ledger: Ledger, call: Call) -> Channels:
    axis = _channel_axis(call)
    return Channels(axis, ledger.read(call, axis))


def _global_pooling(ledger: Ledger, call: Call) -> Channels:
    axis = _channel_axis(call)
    return Channels(axis if call.operation.keepdims else 1, ledger.read(call, axis))


def _reduction(ledger: Ledger, call: Call) -> Channels | str:  # noqa: ARG001
    channels, operation = call.inputs[0], call.operation
    rank = len(call.input_shapes[0])
    axes = {axis % rank for axis in (range(rank) if operation.axis is None else operation.axis)}
    if channels.axis in axes or 0 in axes:
        return "it reduces over channels"
    dropped = 0 if operation.keepdims else sum(axis < channels.axis for axis in axes)
    return Channels(channels.axis - dropped, channels.variables)


def _elementwise(ledger: Ledger, call: Call, *, gate: bool = False) -> Channels | str:
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
            ledger.freeze(channels.variables, f"{call.operation.name} spreads one channel over all")
    for other in full[1:]:
        ledger.unite(full[0], other)
    if len(full) > 1 and not gate:
        ledger.merged.append(full[0])
    return Channels(axis, full[0])


def _gate(ledger: Ledger, call: Call) -> Channels | str:
    return _elementwise(ledger, call, gate=True)


def _concatenation(ledger: Ledger, call: Call) -> Channels | str:
    axis = call.operation.axis % len(call.output_shape)
    axes = {channels.axis for channels in call.inputs}
    if len(axes) != 1:
        return "its inputs have their channels on different axes"
    vectors = [channels.variables for channels in call.inputs]
    if axes == {axis}:
        return Channels(axis, np.concatenate(vectors))
    for other in vectors[1:]:
        ledger.unite(vectors[0], other)
    return Channels(axes.pop(), vectors[0])


def _labels(call: Call) -> Variables | None:
    """The variable of every element of the first input, without the batch axis; None where the shape is open."""
    channels, shape = call.inputs[0], call.input_shapes[0]
    if None in shape[1:]:
        return None
    along = [-1 if axis == channels.axis else 1 for axis in range(1, len(shape))]
    return np.broadcast_to(channels.variables.reshape(along), [size or 0 for size in shape[1:]])


def _relabelled(labels: Variables) -> Channels | str:
    """The one axis that the labels of the elements depend on."""
    for axis in reversed(range(labels.ndim)):
        vector = labels[tuple(slice(None) if other == axis else 0 for other in range(labels.ndim))]
        if (np.moveaxis(labels, axis, -1) == vector).all():
            return Channels(axis + 1, vector)
    return "it spreads channels over several axes"


def _flatten(ledger: Ledger, call: Call) -> Channels | str:  # noqa: ARG001
    labels = _labels(call)
    if labels is None:
        return "its input has no fixed shape"
    if call.operation.data_format == "channels_first":
        labels = np.moveaxis(labels, 0, -1)
    return _relabelled(labels.reshape(-1))


def _permute(ledger: Ledger, call: Call) -> Channels | str:  # noqa: ARG001
    channels = call.inputs[0]
    return Channels(1 + call.operation.dims.index(channels.axis), channels.variables)


def _reshape(ledger: Ledger, call: Call) -> Channels | str:
    labels = _labels(call)
    if labels is None:
        return "its input has no fixed shape"
    channels = _relabelled(labels.reshape([size or 0 for size in call.output_shape[1:]]))
    target = tuple(call.operation.target_shape)
    if isinstance(channels, Channels) and target[channels.axis - 1] != -1:
        ledger.count(call.operation, "target_shape", channels.variables, channels.axis - 1)
    return channels


def _each(handler: Handler, names: str) -> dict[str, Handler]:
    return dict.fromkeys(names.split(), handler)


HANDLERS: dict[str, Handler] = {
    **_each(_input, "InputLayer"),
    **_each(_convolution, "Conv1D Conv2D Conv3D"),
    **_each(_transposed_convolution, "Conv1DTranspose Conv2DTranspose Conv3DTranspose"),
    **_each(_depthwise_convolution, "DepthwiseConv1D DepthwiseConv2D"),
    **_each(_separable_convolution, "SeparableConv1D SeparableConv2D"),
    **_each(_dense, "Dense"),
    **_each(_batch_normalization, "BatchNormalization"),
    **_each(_prelu, "PReLU"),
    **_each(_activation, "Activation"),
    **_each(_softmax, "Softmax ops.Softmax ops.LogSoftmax"),
    **_each(_rescaling, "Rescaling"),
    **_each(
        _same,
        "ReLU LeakyReLU ELU Identity ActivityRegularization Dropout AlphaDropout GaussianDropout GaussianNoise "
        "SpatialDropout1D SpatialDropout2D SpatialDropout3D "
        "ops.Relu ops.Relu6 ops.LeakyRelu ops.Elu ops.Selu ops.Gelu ops.Silu ops.Sigmoid ops.HardSigmoid ops.HardSilu "
        "ops.Softplus ops.Softsign ops.Tanh ops.Negative ops.Absolute ops.Square ops.Sqrt ops.Exp",
    ),
    **_each(
        _spatial,
        "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D ZeroPadding1D "
        "ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D",
    ),
    **_each(
        _global_pooling,
        "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D "
        "GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D",
    ),
    **_each(_reduction, "ops.Mean ops.Sum ops.Max ops.Min"),
    **_each(
        _elementwise,
        "Add Subtract Average Maximum Minimum ops.Add ops.Subtract ops.Maximum ops.Minimum",
    ),
    **_each(_gate, "Multiply ops.Multiply ops.Divide ops.TrueDivide"),
    **_each(_concatenation, "Concatenate ops.Concatenate"),
    **_each(_flatten, "Flatten"),
    **_each(_permute, "Permute"),
    **_each(_reshape, "Reshape"),
}
