"""Cross-layer equalization: channels of like ranges, so that the one range of a quantised tensor does for all of them.

An int8 activation has the range of its largest channel: where that is many times what is usual, little is left of the
others. ReLU, pooling and addition pass a positive factor on, so a channel can be divided by one where it is written and
multiplied by it where it is read, and the model computes what it did (Nagel et al. 2019, "Data-Free Quantization
Through Weight Equalization and Bias Correction", section 4.1). The factor shares what is uneven between the activations
and the kernels that read them (Xiao et al. 2023, "SmoothQuant", equation 4, alpha 1/2).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from compression.keras_graph import calls, constants, functional, kind, tensor_key

# Kinds of layers that pass a factor of a channel on; a sum does where all that it adds has the same one.
_PASSING = frozenset(
    (
        *("Add", "Maximum", "Minimum", "Average", "LeakyReLU", "Dropout", "SpatialDropout1D", "SpatialDropout2D"),
        *("ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D"),
        *("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
        *("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D"),
    )
)
# By the kind of a layer whose kernel reads channels along axis -2: how many of the last axes count what it writes.
_KERNELS = {**dict.fromkeys(("Dense", "Conv1D", "Conv2D", "Conv3D"), 1), "DepthwiseConv1D": 2, "DepthwiseConv2D": 2}
# What is large among channels: all but one in twenty are smaller. And what a channel is taken for at least, against it.
_LARGE = 0.95
_WEAKEST = 1e-2
_TINY = np.finfo(np.float32).tiny

_PerChannel = NDArray[np.float32]


@dataclass(eq=False)
class _Stream:
    """Tensors whose channels must have the same factors: who writes and reads them, and whether factors cannot pass."""

    writers: list[Any] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)
    fixed: bool = False


def equalize(model: Any, batches: Iterable[NDArray[np.float32]]) -> int:
    """Evens out the ranges of the channels wherever factors can pass, in place; the model computes what it did.

    They pass from a kernel or BatchNormalization through ReLU, pooling, padding and additions to kernels. A stream that
    anything else touches stays as it is.

    Args:
        model: Keras 3, functional, channels last.
        batches: at least one, each `(N, ...)` as the model's input: what the activations' ranges are taken from.

    Returns:
        The number of streams that were evened out.

    Raises:
        ValueError: the model is not functional, a layer of it is a model itself, or, where there is something to even
            out, `batches` is empty or drives an activation to what is not a finite number.
    """
    streams = [stream for stream in _streams(model) if stream.readers and not stream.fixed]
    if not streams:
        return 0
    read = {tensor_key(tensor): tensor for stream in streams for tensor in stream.tensors}
    observed = keras.Model(functional(model).inputs, [_peaks(tensor) for tensor in read.values()])
    peaks: dict[str, list[_PerChannel]] = defaultdict(list)
    for batch in batches:
        for key, values in zip(read, keras.tree.flatten(observed.predict_on_batch(batch)), strict=True):
            peaks[key].append(np.asarray(values, np.float32))
    if not peaks:
        raise ValueError("equalization needs at least one batch of inputs; got none")
    # The mean over images: a single odd one does not say what a channel is like.
    ranges = {key: np.concatenate(found).mean(axis=0) for key, found in peaks.items()}
    broken = [key.split(":")[0] for key, values in ranges.items() if not np.isfinite(values).all()]
    if broken:
        raise ValueError(f"calibration images drive {broken[0]} to values that are not finite numbers")
    for stream in streams:
        _apply(stream, _factors(stream, ranges))
    return len(streams)


def _peaks(tensor: Any) -> Any:
    """The largest absolute value of each channel in each image, `(N, channels)`."""
    return keras.ops.max(keras.ops.abs(tensor), axis=tuple(range(1, len(tensor.shape) - 1)))


def _streams(model: Any) -> list[_Stream]:
    nodes = calls(model)
    used = Counter(node.operation.name for node in nodes)
    stream_of: dict[str, _Stream] = {}
    for node in nodes:
        layer = node.operation
        inputs = [stream_of[tensor_key(tensor)] for tensor in node.input_tensors]
        known = used[layer.name] == 1 and len(node.outputs) == 1 and not constants(node)
        if known and _passes(layer, node):
            stream = _merged(inputs)
            stream_of.update((key, stream) for key, found in stream_of.items() if found in inputs)
            if len(inputs) > 1:
                stream.tensors += node.input_tensors
        else:
            reads, writes = known and _reads(layer), known and _writes(layer)
            for tensor, read in zip(node.input_tensors, inputs, strict=True):
                read.fixed |= not reads
                read.readers.append(layer)
                read.tensors.append(tensor)
            stream = _Stream(writers=[layer], fixed=not writes)
        stream_of.update((tensor_key(tensor), stream) for tensor in node.outputs)
    for tensor in functional(model).outputs:
        stream_of[tensor_key(tensor)].fixed = True
    return list(dict.fromkeys(stream_of.values()))


def _merged(streams: Iterable[_Stream]) -> _Stream:
    merged = _Stream()
    for stream in dict.fromkeys(streams):
        merged.writers += stream.writers
        merged.readers += stream.readers
        merged.tensors += stream.tensors
        merged.fixed |= stream.fixed
    return merged


def _passes(layer: Any, node: Any) -> bool:
    if kind(layer) == "ReLU":
        return layer.max_value is None and not layer.threshold
    if kind(layer) == "Activation":
        return _is_homogeneous(layer.activation)
    channels = {tensor.shape[-1] for tensor in (*node.input_tensors, *node.outputs)}
    return kind(layer) in _PASSING and len(channels) == 1 and _channels_last(layer)


def _reads(layer: Any) -> bool:
    return kind(layer) in _KERNELS and getattr(layer, "groups", 1) == 1 and _channels_last(layer)


def _writes(layer: Any) -> bool:
    if kind(layer) == "BatchNormalization":
        return layer.scale and layer.center and layer.axis in (-1, len(layer.input.shape) - 1)
    return kind(layer) in _KERNELS and _channels_last(layer) and _is_homogeneous(layer.activation)


def _is_homogeneous(activation: Any) -> bool:
    return activation in (keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)


def _channels_last(layer: Any) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_last"


def _factors(stream: _Stream, ranges: dict[str, _PerChannel]) -> _PerChannel:
    """What each channel of a stream is multiplied by."""
    activations = np.max([_relative(ranges[tensor_key(tensor)]) for tensor in stream.tensors], axis=0)
    kernels = np.max([_strength(layer) for layer in stream.readers], axis=0)
    factors: _PerChannel = np.sqrt(kernels / activations)
    factors /= np.max(factors * activations)
    return factors


def _relative(ranges: _PerChannel) -> _PerChannel:
    """Against what is large among channels, not the largest: a few that are far above it are those to bring down."""
    alive = ranges[ranges > _WEAKEST * ranges.max()]
    large = np.quantile(alive, _LARGE).astype(np.float32) if len(alive) else np.float32(1)
    return np.maximum(ranges / large, _WEAKEST)


def _strength(layer: Any) -> _PerChannel:
    """The largest weight of each channel that a kernel reads, against the largest of the same output, `(channels,)`."""
    weight: _PerChannel = np.abs(keras.ops.convert_to_numpy(layer.kernel))
    if _KERNELS[kind(layer)] == 2:  # each output reads one channel
        return np.ones(weight.shape[-2], np.float32)
    weight = weight.reshape(-1, *weight.shape[-2:]).max(axis=0)
    strength: _PerChannel = np.maximum(weight / np.maximum(weight.max(axis=0), _TINY), _WEAKEST).max(axis=1)
    return strength


def _apply(stream: _Stream, factors: _PerChannel) -> None:
    for layer in stream.writers:
        if kind(layer) == "BatchNormalization":
            layer.gamma.assign(layer.gamma * factors)
            layer.beta.assign(layer.beta * factors)
            continue
        layer.kernel.assign(layer.kernel * factors.reshape(layer.kernel.shape[-_KERNELS[kind(layer)] :]))
        if layer.use_bias:
            layer.bias.assign(layer.bias * factors)
    for layer in stream.readers:
        layer.kernel.assign(layer.kernel / factors[:, np.newaxis])
