"""Recorded `keras.ops`, as in `x + 3` or `ops.mean(x, (1, 2))`, written as layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from slimcam.compression.normal_form.parts import Parts, Rule, chain

L = keras.layers


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def _constant(value: Any) -> float | list[float] | None:
    """A constant as `Rescaling` takes it: one number, or one for each channel; None for any other."""
    array = np.asarray(keras.ops.convert_to_numpy(value), np.float32)
    if array.size == 1:
        return float(array.reshape(()))
    per_channel: list[float] = array.reshape(-1).tolist()
    return per_channel if array.shape[-1] == array.size else None


def _arithmetic(merge: type, rescale: Callable[[Any, bool], tuple[Any, Any]] | None) -> Rule:
    """A rule for an operation of two arguments.

    Args:
        merge: layer for two tensors of the model.
        rescale: scale and offset for a constant, which is the left argument or the right one.
    """

    def rule(operation: Any, make: Parts) -> Callable[..., Any]:
        def call(left: Any, right: Any) -> Any:
            if _is_tensor(left) and _is_tensor(right):
                if len(left.shape) != len(right.shape):
                    return make.keep(operation)(left, right)
                return make(merge)([left, right])
            tensor, value = (right, left) if _is_tensor(right) else (left, right)
            constant = _constant(value)
            if constant is None or rescale is None:
                return make.keep(operation)(left, right)
            scale, offset = rescale(np.asarray(constant), tensor is right)
            return make(L.Rescaling, _plain(scale), _plain(offset))(tensor)

        return call

    return rule


def _plain(value: Any) -> Any:
    return np.asarray(value, np.float64).tolist()


def _division(operation: Any, make: Parts) -> Callable[..., Any]:
    def call(left: Any, right: Any) -> Any:
        divisor = None if _is_tensor(right) else _constant(right)
        if divisor is None:
            return make.keep(operation)(left, right)
        return make(L.Rescaling, _plain(1 / np.asarray(divisor)))(left)

    return call


def _extreme(merge: type, sign: float) -> Rule:
    """max(x, c) = relu(x - c) + c, and min(x, c) = c - relu(c - x)."""

    def rule(operation: Any, make: Parts) -> Callable[..., Any]:
        def call(left: Any, right: Any) -> Any:
            if _is_tensor(left) and _is_tensor(right):
                return (
                    make(merge)([left, right])
                    if len(left.shape) == len(right.shape)
                    else make.keep(operation)(left, right)
                )
            tensor, value = (right, left) if _is_tensor(right) else (left, right)
            constant = _constant(value)
            if not isinstance(constant, float):
                return make.keep(operation)(left, right)
            if constant == 0 and sign > 0:
                return make(L.ReLU)(tensor)
            return chain(
                make(L.Rescaling, sign, -sign * constant, suffix="shift"),
                make(L.ReLU),
                make(L.Rescaling, sign, constant, suffix="back"),
            )(tensor)

        return call

    return rule


def _clip(operation: Any, make: Parts) -> Callable[..., Any]:
    low, high = float(operation.x_min), float(operation.x_max)
    limit = make(L.ReLU, max_value=high - low)
    if low == 0:
        return chain(limit)
    return chain(make(L.Rescaling, 1.0, -low, suffix="shift"), limit, make(L.Rescaling, 1.0, low, suffix="back"))


def _reduction(pooling: type) -> Rule:
    def rule(operation: Any, make: Parts) -> Callable[..., Any] | None:
        def call(x: Any) -> Any:
            axes = () if operation.axis is None else np.atleast_1d(operation.axis) % len(x.shape)
            if len(x.shape) != 4 or sorted(axes) != [1, 2]:
                return make.keep(operation)(x)
            return make(pooling, keepdims=operation.keepdims)(x)

        return call

    return rule


def _reshape(operation: Any, make: Parts) -> Callable[..., Any] | None:
    """Reshapes of what belongs to one image."""

    def call(x: Any) -> Any:
        target = operation.output.shape
        if target[0] != x.shape[0] or None in target[1:] or None in x.shape[1:] or not _same_size(x.shape, target):
            return make.keep(operation)(x)
        return make(L.Reshape, tuple(target[1:]))(x)

    return call


def _same_size(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return math.prod(left[1:]) == math.prod(right[1:])


def _transpose(operation: Any, make: Parts) -> Callable[..., Any] | None:
    axes = operation.axes
    return None if axes is None or axes[0] != 0 else make(L.Permute, tuple(axes[1:]))


def _pad(operation: Any, make: Parts) -> Callable[..., Any] | None:
    def call(x: Any, constant_values: Any = None) -> Any:
        width = operation.pad_width
        outside = [pair for axis, pair in enumerate(width) if axis in (0, len(width) - 1)]
        if operation.mode != "constant" or constant_values or np.any(outside) or len(width) not in (3, 4):
            return make.keep(operation)(x, constant_values=constant_values)
        inside = tuple(tuple(pair) for pair in width[1:-1])
        return make(L.ZeroPadding2D, inside)(x) if len(inside) == 2 else make(L.ZeroPadding1D, inside[0])(x)

    return call


def _square(operation: Any, make: Parts) -> Callable[..., Any]:  # noqa: ARG001
    multiply = make(L.Multiply)
    return lambda x: multiply([x, x])


def _layer(layer: type, *arguments: Any, **options: Any) -> Rule:
    return lambda _operation, make: make(layer, *arguments, **options)


def _activation(name: str) -> Rule:
    return _layer(L.Activation, name)


FLAT: dict[str, Rule] = {
    "ops.Add": _arithmetic(L.Add, lambda c, _: (1.0, c)),
    "ops.Subtract": _arithmetic(L.Subtract, lambda c, first: (-1.0, c) if first else (1.0, -c)),
    "ops.Multiply": _arithmetic(L.Multiply, lambda c, _: (c, 0.0)),
    **dict.fromkeys(("ops.Divide", "ops.TrueDivide"), _division),
    "ops.Negative": _layer(L.Rescaling, -1.0),
    "ops.Square": _square,
    "ops.Maximum": _extreme(L.Maximum, 1.0),
    "ops.Minimum": _extreme(L.Minimum, -1.0),
    "ops.Clip": _clip,
    "ops.Mean": _reduction(L.GlobalAveragePooling2D),
    "ops.Max": _reduction(L.GlobalMaxPooling2D),
    **dict.fromkeys(("ops.ExpandDims", "ops.Squeeze", "ops.Reshape"), _reshape),
    "ops.Transpose": _transpose,
    "ops.Pad": _pad,
    "ops.Concatenate": lambda operation, make: make(L.Concatenate, axis=operation.axis),
    "ops.Relu": _layer(L.ReLU),
    "ops.Relu6": _layer(L.ReLU, max_value=6.0),
    "ops.LeakyRelu": lambda operation, make: make(L.LeakyReLU, negative_slope=operation.negative_slope),
    "ops.Softmax": lambda operation, make: make(L.Softmax, axis=operation.axis),
    "ops.Silu": _activation("silu"),
    "ops.Sigmoid": _activation("sigmoid"),
    "ops.Tanh": _activation("tanh"),
    "ops.HardSigmoid": _activation("hard_sigmoid"),
    "ops.HardSilu": _activation("hard_silu"),
}
"""Arithmetic, reductions, shapes and activation functions; what none of these can say stays an operation."""


def _sections(operation: Any, size: int) -> list[tuple[int, int]]:
    given = operation.indices_or_sections
    if isinstance(given, int):
        return [(part * size // given, (part + 1) * size // given) for part in range(given)]
    borders = [0, *given, size]
    return list(itertools.pairwise(borders))


def _split(operation: Any, make: Parts) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        axis = operation.axis % len(x.shape)
        if axis == 0 or None in x.shape[1:]:
            return make.keep(operation)(x)
        sections = _sections(operation, x.shape[axis])
        return [_cropped(make, x, {axis: section}, f"{number}") for number, section in enumerate(sections)]

    return call


def _item(operation: Any, make: Parts) -> Callable[..., Any]:
    def call(x: Any, key: Any) -> Any:
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            place = keys.index(Ellipsis)
            keys[place : place + 1] = [slice(None)] * (len(x.shape) - len(keys) + 1)
        ranges = {}
        for axis, each in enumerate(keys):
            if each == slice(None):
                continue
            if axis == 0 or not isinstance(each, slice) or None in x.shape[1:] or each.step not in (None, 1):
                return make.keep(operation)(x, key)
            ranges[axis] = each.indices(x.shape[axis])[:2]
        return _cropped(make, x, ranges, "") if ranges else x

    return call


def _cropped(make: Parts, x: Any, ranges: dict[int, tuple[int, int]], suffix: str) -> Any:
    """Part of a tensor along some axes: each crop is of the middle axis of (before, axis, after)."""
    for axis, (start, stop) in ranges.items():
        shape = x.shape[1:]
        before, size, after = math.prod(shape[: axis - 1]), shape[axis - 1], math.prod(shape[axis:])
        x = make(L.Reshape, (before, size, after), suffix=f"open{suffix}")(x)
        x = make(L.Cropping2D, ((0, 0), (start, size - stop)), suffix=f"crop{suffix}")(x)
        x = make(L.Reshape, (*shape[: axis - 1], stop - start, *shape[axis:]), suffix=suffix)(x)
    return x


INT8: dict[str, Rule] = {"ops.Split": _split, "ops.GetItem": _item}
"""Parts of tensors, which TensorFlow's own layers of that name do not express."""
