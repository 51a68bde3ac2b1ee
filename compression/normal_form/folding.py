"""What is linear by channel (batch normalization, rescaling), folded into convolutions or made one of its own.

Such a layer computes `scale * x + offset` for each channel. Behind one another they become one; behind a convolution
that nothing else reads they go into its weights, and before one likewise, where no border is padded with what would be
another value. The rest becomes a 1x1 depthwise convolution. Batch normalization directly behind its own convolution
stays: it is folded by the converter, and its kernel is quantized as it is trained.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.keras_graph import calls, functional, kind, tensor_key
from slimcam.compression.layers.weights import weight
from slimcam.compression.normal_form.parts import Change, Names, Weights, cloned, placed

L = keras.layers

_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D")
_KERNELS = (*_CONVOLUTIONS, "Conv2DTranspose")
_FUSING = (*_KERNELS, "BatchNormalization", "Add", "Subtract", "Multiply")
"""Layers into which TFLite fuses a ReLU that alone reads them."""

_ELEMENTWISE = ("ReLU", "Activation", "LeakyReLU", "Dropout")


@dataclass(frozen=True, eq=False)
class _Value:
    """A tensor that is not there yet: `reshape(scale * base + offset)`.

    Attributes:
        base: Tensor of the new model.
        producer: Kind of the layer that computed `base`.
        scale: Factor of each channel, `(channels,)`; None where there is nothing to compute.
        offset: As `scale`.
        name: Name of the layer that gives the values.
        reshape: Layer that restores the shape.
    """

    base: Any
    producer: str
    scale: NDArray[np.float64] | None = None
    offset: NDArray[np.float64] | None = None
    name: str = ""
    reshape: Any = None


def fold(model: Any, names: Names) -> tuple[Any, list[Change]]:
    """Folds what is linear by channel; returns the new model and the changes.

    Args:
        model: flat, functional, channels last.
        names: names of the model's layers; those of new ones are added.
    """
    folding = _Folding(model, names)
    source = functional(model)
    for node in calls(model):
        folding.visit(node)
    built = keras.Model(
        keras.tree.map_structure(lambda tensor: folding.inputs[id(tensor)], source.input),
        keras.tree.map_structure(lambda tensor: folding.tensor(tensor), source.output),
        name=model.name,
    )
    return built, folding.changes


class _Folding:
    def __init__(self, model: Any, names: Names) -> None:
        self.changes: list[Change] = []
        self.inputs: dict[int, Any] = {}
        self._names = names
        self._values: dict[int, _Value] = {}
        self._layers: dict[str, Callable[..., Any]] = {}
        self._kernels: dict[int, Any] = {}  # convolutions that may take a factor, by the id of what they compute
        self._there: dict[_Value, Any] = {}
        self._reused: set[str] = set()
        nodes = calls(model)
        self._used = Counter(node.operation.name for node in nodes)
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in nodes:
            for tensor in node.input_tensors:
                self._readers[tensor_key(tensor)].append(node.operation)
        for tensor in functional(model).outputs:
            self._readers[tensor_key(tensor)].append(None)

    def visit(self, node: Any) -> None:
        """Computes the outputs of one call."""
        operation, kept = node.operation, kind(node.operation)
        if node.is_input:
            (old,) = node.outputs
            new = keras.Input(batch_shape=old.shape, dtype=old.dtype, name=operation.name)
            self.inputs[id(old)] = new
            self._values[id(old)] = _Value(new, kept)
            return
        if len(node.input_tensors) == 1 and len(node.outputs) == 1:
            (old,) = node.input_tensors
            value = self._one(node, old)
            if value is not None:
                self._values[id(node.outputs[0])] = value
                return
        there = {id(tensor): self.tensor(tensor) for tensor in node.input_tensors}
        arguments, keywords = node.arguments.fill_in(there)
        made = keras.tree.flatten(self._layer(operation)(*arguments, **keywords))
        self._values.update((id(old), _Value(new, kept)) for old, new in zip(node.outputs, made, strict=True))

    def tensor(self, old: Any) -> Any:
        """The new tensor for one of the model's, computed now where it was put off."""
        return self._computed(self._values[id(old)])

    def _alone(self, tensor: Any) -> bool:
        return len(self._readers[tensor_key(tensor)]) == 1

    def _one(self, node: Any, old: Any) -> _Value | None:
        """The output of a layer with one input, None for one to call as it is."""
        operation, kept, value = node.operation, kind(node.operation), self._values[id(old)]
        linear = _linear(operation, old.shape)
        if linear is not None and not self._stays(operation, old):
            return self._scaled(operation, old, *linear)
        if kept == "Reshape" and old.shape[-1] == node.outputs[0].shape[-1] and value.base.shape[-1] == old.shape[-1]:
            if tuple(value.base.shape) == tuple(node.outputs[0].shape):
                return replace(value, reshape=None)
            return replace(value, reshape=operation)
        if kept in _KERNELS:
            return self._kernel(operation, node, old)
        if kept not in _ELEMENTWISE or (value.reshape is not None and getattr(operation, "noise_shape", None)):
            return None
        if _is_relu(operation):
            return self._relu(operation, old)
        base = self._computed(replace(value, reshape=None) if value.reshape is not None else value)
        return _Value(self._layer(operation)(base), kept, reshape=value.reshape)

    def _stays(self, operation: Any, old: Any) -> bool:
        """Whether batch normalization directly follows its own convolution."""
        producer = old._keras_history[0]
        return (
            kind(operation) == "BatchNormalization"
            and kind(producer) in _CONVOLUTIONS
            and self._values[id(old)].scale is None
            and self._values[id(old)].reshape is None
            and self._alone(old)
            and self._used[producer.name] == self._used[operation.name] == 1
        )

    def _scaled(self, operation: Any, old: Any, scale: Any, offset: Any) -> _Value:
        value = self._values[id(old)]
        convolution = self._kernels.get(id(value.base)) if value.scale is None and self._alone(old) else None
        if convolution is not None:
            _scale_outputs(convolution, scale, offset)
            self.changes.append(Change(operation.name, kind(operation), (convolution.name,)))
            return value
        if value.scale is not None and self._alone(old):
            assert value.offset is not None
            return replace(value, scale=value.scale * scale, offset=value.offset * scale + offset)
        base = self._computed(replace(value, reshape=None))
        return _Value(base, "", scale, offset, operation.name, value.reshape)

    def _computed(self, value: _Value, *, shared: bool = True) -> Any:
        """Computes a value that was put off: a 1x1 depthwise convolution, and the shape."""
        if shared and value in self._there:
            return self._there[value]
        x = value.base
        if value.scale is not None:
            x = self._depthwise(value)(x)
        if value.reshape is not None:
            x = self._layer(value.reshape)(x)
        if shared:
            self._there[value] = x
        return x

    def _depthwise(self, value: _Value) -> Callable[[Any], Any]:
        assert value.scale is not None
        assert value.offset is not None
        origin = self._names.origins.get(value.name, value.name)
        name = value.name  # the layer's own, at its first convolution
        if name in self._reused or name not in self._names.origins:
            name = self._names.unique(name, origin)
        self._reused.add(name)
        self.changes.append(Change(origin, "linear by channel", (name,)))
        layer = L.DepthwiseConv2D(1, name=name, trainable=False, dtype="float32")
        offset = value.offset.astype(np.float32)
        if np.ptp(offset) == 0 and np.ptp(value.scale) > 0:
            # The converter takes a bias of equal values for one with the scale of the first channel throughout.
            offset[0] = np.nextafter(offset[0], np.float32(np.inf))
        depthwise = placed(layer, [value.scale.astype(np.float32).reshape(1, 1, -1, 1), offset])
        shape = value.base.shape[1:]
        if len(shape) == 3:
            return depthwise
        image = (1, shape[0], shape[1]) if len(shape) == 2 else (1, 1, shape[0])
        before = L.Reshape(image, name=self._names.unique(f"{name}_image", origin))
        after = L.Reshape(shape, name=self._names.unique(f"{name}_restored", origin))
        return lambda x: after(depthwise(before(x)))

    def _kernel(self, operation: Any, node: Any, old: Any) -> _Value | None:
        """A convolution, with what comes before it and behind it in its weights."""
        value, output = self._values[id(old)], node.outputs[0]
        if self._used[operation.name] > 1:
            return None
        weights: Weights = [np.asarray(each) for each in operation.get_weights()]
        behind = self._is_behind(operation, output)
        before = value.scale is not None and self._alone(old) and value.reshape is None and _takes(operation, value)
        if not before and not behind:
            return None
        if not operation.use_bias:
            weights = [*weights, np.zeros(output.shape[-1], np.float32)]
        if before:
            weights = _with_scaled_inputs(weights, operation, value)
            origin = self._names.origins.get(value.name, value.name)
            self.changes.append(Change(origin, "linear by channel", (operation.name,)))
        layer = type(operation).from_config({**operation.get_config(), "use_bias": True})
        result = placed(layer, weights)(value.base if before else self.tensor(old))
        if behind:
            self._kernels[id(result)] = layer
        return _Value(result, kind(operation))

    def _is_behind(self, convolution: Any, output: Any) -> bool:
        """Whether what is linear by channel, and would not stay, alone reads a convolution."""
        if not self._alone(output):
            return False
        (reader,) = self._readers[tensor_key(output)]
        if reader is None:
            return False
        if kind(reader) == "Reshape" and reader.output.shape[-1] == output.shape[-1]:
            return self._is_behind(reader, reader.output)
        own = kind(reader) == "BatchNormalization" and kind(convolution) in _CONVOLUTIONS
        return not own and _linear(reader, output.shape) is not None

    def _relu(self, operation: Any, old: Any) -> _Value:
        """ReLU, behind a convolution or a sum of its own, since XNNPACK has none that stands alone."""
        value = self._values[id(old)]
        flat = replace(value, reshape=None)
        if value.scale is not None:
            base = self._computed(flat, shared=self._alone(old) and value.reshape is None)
        elif value.producer in _FUSING and self._alone(old):
            base = value.base
        else:
            channels = value.base.shape[-1]
            before = _Value(value.base, "", np.ones(channels), np.zeros(channels), f"{operation.name}_input")
            base = self._computed(before) if channels is not None else value.base
        return _Value(self._layer(operation)(base), kind(operation), reshape=value.reshape)

    def _layer(self, operation: Any) -> Callable[..., Any]:
        if operation.name not in self._layers:
            self._layers[operation.name] = cloned(operation, {})
        return self._layers[operation.name]


def _linear(operation: Any, shape: tuple[int | None, ...]) -> tuple[Any, Any] | None:
    """Scale and offset of each channel, where a layer is linear by channel."""
    channels = shape[-1]
    if channels is None or len(shape) > 4:
        return None
    if kind(operation) == "BatchNormalization" and operation.axis in (-1, len(shape) - 1):
        values = {each.name: keras.ops.convert_to_numpy(each).astype(np.float64) for each in operation.weights}
        scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + operation.epsilon)
        return scale, values.get("beta", 0.0) - values["moving_mean"] * scale
    if kind(operation) == "Rescaling":
        scale, offset = (np.asarray(value, np.float64) for value in (operation.scale, operation.offset))
    elif kind(operation) == "Normalization" and not operation.invert:
        mean, variance = (keras.ops.convert_to_numpy(value) for value in (operation.mean, operation.variance))
        scale = 1 / np.maximum(np.sqrt(variance.astype(np.float64)), keras.backend.epsilon())
        offset = -mean * scale
    else:
        return None
    if any(value.size not in (1, value.shape[-1] if value.ndim else 1) for value in (scale, offset)):
        return None
    return tuple(np.broadcast_to(value.reshape(-1), (channels,)).copy() for value in (scale, offset))  # type: ignore[return-value]


def _is_relu(operation: Any) -> bool:
    if kind(operation) == "ReLU":
        return not operation.negative_slope and not operation.threshold
    return kind(operation) == "Activation" and getattr(operation.activation, "__name__", "") == "relu"


def _takes(convolution: Any, value: _Value) -> bool:
    """Whether a convolution can take what comes before it: padding with zeros would have to be with another value."""
    assert value.offset is not None
    inside = convolution.padding == "valid" or not np.any(value.offset)
    return kind(convolution) in _CONVOLUTIONS and getattr(convolution, "groups", 1) == 1 and inside


def _with_scaled_inputs(weights: Weights, convolution: Any, value: _Value) -> Weights:
    kernel, bias = weights
    assert value.scale is not None
    assert value.offset is not None
    shift = kernel * value.offset.reshape(-1, 1)
    depthwise = kind(convolution) == "DepthwiseConv2D"
    added = shift.sum(axis=(0, 1)).reshape(-1) if depthwise else shift.sum(axis=(0, 1, 2))
    return [(kernel * value.scale.reshape(-1, 1)).astype(np.float32), (bias + added).astype(np.float32)]


def _scale_outputs(convolution: Any, scale: Any, offset: Any) -> None:
    kernel, bias = weight(convolution, "kernel"), weight(convolution, "bias")
    shape = {"Conv2D": (-1,), "Conv2DTranspose": (-1, 1)}.get(kind(convolution), kernel.shape[-2:])
    kernel.assign(kernel * np.reshape(scale, shape).astype(np.float32))
    bias.assign(bias * scale.astype(np.float32) + offset.astype(np.float32))
