"""Cross-layer equalization: channels of similar ranges, so that the one range of a quantized tensor suits all of them.

An int8 activation has the range of its largest channel: where that is many times what is usual, little is left of the
others. ReLU, pooling and addition pass a positive factor on, so a channel can be divided by one where it is written and
multiplied by it where it is read, and the model computes what it did (Nagel et al. 2019, "Data-Free Quantization
Through Weight Equalization and Bias Correction", section 4.1). Through ReLU6 a factor passes that keeps what the images
drive the channel to below 6; a channel that reaches 6 gets none. The factor shares what is uneven between the
activations and the kernels that read them (Xiao et al. 2023, "SmoothQuant", equation 4, alpha 1/2).
"""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.keras_graph import calls, constants, functional, tensor_key
from slimcam.compression.layers.activations import activation_spec
from slimcam.compression.layers.spec import LayerSpec
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.weights import weight

# What is large among channels: all but one in twenty are smaller. And what a channel is taken for at least, against it.
_LARGE = 0.95
_WEAKEST = 1e-2
_TINY = np.finfo(np.float32).tiny

_PerChannel = NDArray[np.float32]


@dataclass(eq=False)
class _FactorGroup:
    """Tensors whose channels must have the same factors.

    Attributes:
        writers: Layers that write the tensors, each with its facts.
        readers: Layers that read them, each with its facts.
        tensors: Tensors whose ranges count: those that a layer reads.
        cut_off: Tensors that a layer cuts off, and the value at which it does.
        fixed: Whether something that no factor passes touches the tensors, so that they stay as they are.
    """

    writers: list[tuple[Any, LayerSpec]] = field(default_factory=list)
    readers: list[tuple[Any, LayerSpec]] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)
    cut_off: list[tuple[Any, float]] = field(default_factory=list)
    fixed: bool = False


def equalize(model: Any, batches: Iterable[NDArray[np.float32] | list[NDArray[np.float32]]]) -> int:
    """Equalizes the ranges of the channels wherever factors can pass, in place; the model computes what it did.

    They pass from a kernel or BatchNormalization through ReLU, pooling, padding and additions to kernels. Tensors that
    anything else touches stay as they are. Behind ReLU6, what would exceed by far all that the batches hold is cut off
    earlier than it was.

    Args:
        model: Keras 3, functional, channels last.
        batches: at least one, each `(N, ...)` as the model's input, or a list of such for several inputs: what the
            activations' ranges are taken from.

    Returns:
        The number of groups of tensors that were equalized.

    Raises:
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
        CompressionError: there is something to equalize, but `batches` is empty or drives an activation to what is not
            a finite number.
    """
    groups = [group for group in _factor_groups(model) if group.readers and not group.fixed]
    if not groups:
        return 0
    counted = [tensor for group in groups for tensor in (*group.tensors, *(cut for cut, _ in group.cut_off))]
    read = {tensor_key(tensor): tensor for tensor in counted}
    observed = keras.Model(functional(model).inputs, [_peaks(tensor) for tensor in read.values()])
    peaks: dict[str, list[_PerChannel]] = defaultdict(list)
    for batch in batches:
        for key, values in zip(read, keras.tree.flatten(observed.predict_on_batch(batch)), strict=True):
            peaks[key].append(np.asarray(values, np.float32))
    if not peaks:
        raise CompressionError("equalization needs at least one batch of inputs; got none")
    # The mean over images: a single outlier does not say what a channel is like.
    ranges = {key: np.concatenate(found).mean(axis=0) for key, found in peaks.items()}
    largest = {key: np.concatenate(found).max(axis=0) for key, found in peaks.items()}
    broken = [key.split(":")[0] for key, values in ranges.items() if not np.isfinite(values).all()]
    if broken:
        raise CompressionError(f"calibration images drive {broken[0]} to values that are not finite numbers")
    for group in groups:
        _apply(group, _limited(group, _factors(group, ranges), largest))
    return len(groups)


def _peaks(tensor: Any) -> Any:
    """The largest absolute value of each channel in each image, `(N, channels)`."""
    return keras.ops.max(keras.ops.abs(tensor), axis=tuple(range(1, len(tensor.shape) - 1)))


def _factor_groups(model: Any) -> list[_FactorGroup]:
    nodes = calls(model)
    used = Counter(node.operation.name for node in nodes)
    group_of: dict[str, _FactorGroup] = {}
    for node in nodes:
        layer, spec = node.operation, layer_spec(node.operation)
        inputs = [group_of[tensor_key(tensor)] for tensor in node.input_tensors]
        known = spec if used[layer.name] == 1 and len(node.outputs) == 1 and not constants(node) else None
        if known is not None and _passes(known, node):
            group = _merged(inputs)
            limit = None if known.limit is None else known.limit(layer)
            if limit is not None:
                group.cut_off.append((node.outputs[0], limit))
            group_of.update((key, group) for key, found in group_of.items() if found in inputs)
            if len(inputs) > 1:
                group.tensors += node.input_tensors
        else:
            reads, writes = known is not None and _reads(known, node), known is not None and _writes(known, node)
            for tensor, read in zip(node.input_tensors, inputs, strict=True):
                read.fixed |= not reads
                read.readers += [(layer, known)] if known is not None else []
                read.tensors.append(tensor)
            group = _FactorGroup([(layer, known)] if known is not None else [], fixed=not writes)
        group_of.update((tensor_key(tensor), group) for tensor in node.outputs)
    for tensor in functional(model).outputs:
        group_of[tensor_key(tensor)].fixed = True
    return list(dict.fromkeys(group_of.values()))


def _merged(groups: Iterable[_FactorGroup]) -> _FactorGroup:
    merged = _FactorGroup()
    for group in dict.fromkeys(groups):
        merged.writers += group.writers
        merged.readers += group.readers
        merged.tensors += group.tensors
        merged.cut_off += group.cut_off
        merged.fixed |= group.fixed
    return merged


def _passes(spec: LayerSpec, node: Any) -> bool:
    channels = {tensor.shape[-1] for tensor in (*node.input_tensors, *node.outputs)}
    return spec.is_homogeneous(node.operation) and len(channels) == 1 and _channels_last(node)


def _reads(spec: LayerSpec, node: Any) -> bool:
    return bool(spec.kernels) and getattr(node.operation, "groups", 1) == 1 and _channels_last(node)


def _writes(spec: LayerSpec, node: Any) -> bool:
    activation = getattr(node.operation, "activation", keras.activations.linear)
    there = bool(spec.output_weights) and weight(node.operation, spec.output_weights[0]) is not None
    return there and _channels_last(node) and activation_spec(activation).homogeneous


def _channels_last(node: Any) -> bool:
    axis = getattr(node.operation, "axis", -1)
    last = axis in (-1, len(node.outputs[0].shape) - 1)
    return last and getattr(node.operation, "data_format", "channels_last") == "channels_last"


def _factors(group: _FactorGroup, ranges: dict[str, _PerChannel]) -> _PerChannel:
    """What each channel of a group is multiplied by."""
    activations = np.max([_relative(ranges[tensor_key(tensor)]) for tensor in group.tensors], axis=0)
    kernels = np.max([_strength(layer, spec) for layer, spec in group.readers], axis=0)
    factors: _PerChannel = np.sqrt(kernels / activations)
    factors /= np.max(factors * activations)
    return factors


def _limited(group: _FactorGroup, factors: _PerChannel, largest: dict[str, _PerChannel]) -> _PerChannel:
    """The factors with which nothing is cut off that was not, and nothing is left that was cut off."""
    for tensor, limit in group.cut_off:
        reached = largest[tensor_key(tensor)]
        room = limit / np.maximum(reached, _WEAKEST * limit)
        factors = np.where(reached < limit, np.minimum(factors, room), 1).astype(np.float32)
    return factors


def _relative(ranges: _PerChannel) -> _PerChannel:
    """Against what is large among channels, not the largest: a few that are far above it are those to bring down."""
    alive = ranges[ranges > _WEAKEST * ranges.max()]
    large = np.quantile(alive, _LARGE).astype(np.float32) if len(alive) else np.float32(1)
    return np.maximum(ranges / large, _WEAKEST)


def _strength(layer: Any, spec: LayerSpec) -> _PerChannel:
    """The largest weight of each channel that a kernel reads, against the largest of the same output, `(channels,)`."""
    kernel = spec.kernels[0]
    values: _PerChannel = np.abs(keras.ops.convert_to_numpy(weight(layer, kernel.name)))
    if kernel.depthwise:  # each output reads one channel
        return np.ones(values.shape[kernel.reads], np.float32)
    values = np.moveaxis(values, (kernel.reads, *kernel.writes), (-2, -1))
    values = values.reshape(-1, *values.shape[-2:]).max(axis=0)
    strength: _PerChannel = np.maximum(values / np.maximum(values.max(axis=0), _TINY), _WEAKEST).max(axis=1)
    return strength


def _apply(group: _FactorGroup, factors: _PerChannel) -> None:
    for layer, spec in group.writers:
        axes = {kernel.name: kernel.writes for kernel in spec.kernels}
        for name in spec.output_weights:
            _along(axes.get(name, (-1,)), weight(layer, name), operator.mul, factors)
    for layer, spec in group.readers:
        _along((spec.kernels[0].reads,), weight(layer, spec.kernels[0].name), operator.truediv, factors)


def _along(axes: tuple[int, ...], variable: Any, operation: Callable[[Any, Any], Any], factors: _PerChannel) -> None:
    """Multiplies or divides a weight, where the layer has it, by the factors of the channels that its axes count."""
    if variable is not None:
        shape = [size if axis - len(variable.shape) in axes else 1 for axis, size in enumerate(variable.shape)]
        variable.assign(operation(variable, factors.reshape(shape)))
