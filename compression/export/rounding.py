"""Scales with which all versions of XNNPACK round alike.

An int8 kernel multiplies a sum of integers by a factor of three scales and rounds. Two versions give other bytes where
they compute another factor, or where a product is halfway between two integers:

- A mean over positions: that of tflite-runtime 2.14 rounds before it adds the zero point, on ARM halves up; later ones
  add the zero point in float32 first (`src/operators/reduce-nd.c`).
- A convolution: the wheel of tflite-runtime for 64-bit ARM is compiled with `-funsafe-math-optimizations`, and
  multiplies the weights' scale by input scale / output scale, where others divide input scale * weight scale by the
  output scale: in a third of the channels that is another float32.

Both are decided by digits of a scale that mean nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from slimcam.compression.export.delegation import operator_kinds

_KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

_MOVING = (
    *("CONCATENATION", "EXPAND_DIMS", "MAX_POOL_2D", "PACK", "PAD", "PADV2", "RESHAPE", "SLICE", "SPLIT"),
    *("SQUEEZE", "STRIDED_SLICE", "TRANSPOSE"),
)
"""Operators that only move values: what goes in and out has one scale."""

_FIXED = ("L2_NORMALIZATION", "LOGISTIC", "LOG_SOFTMAX", "SOFTMAX", "TANH")
"""Operators whose output has the scale that TFLite prescribes."""

_TOLERANCE = 5e-4
"""Share by which the scale of a mean may change: an eighth of a step over the whole range."""

_NEIGHBORS = 2048
"""Float32 numbers around a weights' scale that are tried: mostly one of three serves, none is 0.02 % away."""


@dataclass(frozen=True, eq=False)
class _Operator:
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Tensor:
    """An int8 tensor; `scale` is that of the file, and can be written."""

    shape: NDArray[np.int32]
    scale: NDArray[np.float32]
    zero_point: int


def rounded_alike(content: bytes) -> bytes:
    """Changes scales of an int8 model so that its bytes do not depend on the version of the runtime.

    Those of a mean's output by half a thousandth at most, so that no sum of its integers comes near a half; those of
    weights by a few units in the last place, so that the order of multiplication does not matter.

    Args:
        content: of a `.tflite` file; tensors that are not int8 stay as they are.
    """
    file = bytearray(content)
    root = schema.Model.GetRootAs(file)
    graph = root.Subgraphs(0)
    kinds = operator_kinds(root)
    nodes = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    operators = [
        _Operator(kind, _indices(node.InputsAsNumpy()), _indices(node.OutputsAsNumpy()))
        for kind, node in zip(kinds, nodes, strict=True)
    ]
    tensors = {
        index: _Tensor(tensor.ShapeAsNumpy(), tensor.Quantization().ScaleAsNumpy(), _zero_point(tensor))
        for index in range(graph.TensorsLength())
        for tensor in [graph.Tensors(index)]
        if tensor.Type() == schema.TensorType.INT8 and tensor.Quantization() and tensor.Quantization().ScaleLength()
    }
    fixed = {*_indices(graph.InputsAsNumpy()), *(each.outputs[0] for each in operators if each.kind in _FIXED)}
    for operator in operators:
        if operator.kind == "MEAN" and {operator.inputs[0], operator.outputs[0]} <= tensors.keys():
            together = _of_one_scale(operator.outputs[0], operators, tensors)
            if not together & fixed:
                scale = _without_halves(*(tensors[index] for index in (operator.inputs[0], operator.outputs[0])))
                for index in together:
                    tensors[index].scale[:] = scale
    _settle_factors(operators, tensors)
    return bytes(file)


def _indices(found: Any) -> tuple[int, ...]:
    return tuple(int(index) for index in found if index >= 0)


def _zero_point(tensor: Any) -> int:
    return int(tensor.Quantization().ZeroPoint(0)) if tensor.Quantization().ZeroPointLength() else 0


def _of_one_scale(start: int, operators: Iterable[_Operator], tensors: dict[int, _Tensor]) -> set[int]:
    """The tensors whose scale is that of one of them because values are only moved between them."""
    steps = [each for each in operators if each.kind in _MOVING]
    wanted, found, pending = tensors[start], set[int](), [start]
    while pending:
        index = pending.pop()
        other = tensors.get(index)
        if index in found or other is None or not np.array_equal(other.scale, wanted.scale):
            continue
        if other.zero_point == wanted.zero_point:
            found.add(index)
            ends = [(*step.inputs, *step.outputs) for step in steps]
            pending.extend(neighbor for end in ends if index in end for neighbor in end)
    return found


def _without_halves(source: _Tensor, result: _Tensor) -> np.float32:
    """The scale of a mean, near the one that it has, by which sums become multiples of 1/q with the smallest odd q.

    A multiple of 1/q is no nearer to a half than 1/2q, and float32 keeps the two apart where the steps of the mean are
    not finer than an eighth of those of the image, up to a thousand positions or so.
    """
    count = int(np.prod(source.shape)) / int(np.prod(result.shape))
    wanted = float(source.scale[0]) / (float(result.scale[0]) * count)
    # All factors of one interval become the same fraction well within it, so that a second call changes nothing.
    start = math.exp(math.floor(math.log(wanted) / _TOLERANCE) * _TOLERANCE)
    low, high = start * (1 + _TOLERANCE / 8), start * (1 + _TOLERANCE * 7 / 8)
    q = 1
    while math.ceil(low * q) > high * q:
        q += 2
    return np.float32(float(source.scale[0]) * q / (count * math.ceil(low * q)))


def _settle_factors(operators: Iterable[_Operator], tensors: dict[int, _Tensor]) -> None:
    """Moves scales of weights to where both orders of multiplication give one factor."""
    uses = defaultdict(list)
    for operator in operators:
        if operator.kind in _KERNELS and {*operator.inputs[:2], operator.outputs[0]} <= tensors.keys():
            source, weights, result = *operator.inputs[:2], operator.outputs[0]
            uses[weights].append((tensors[source].scale[0], tensors[result].scale[0]))
    for weights, ends in uses.items():
        scale = tensors[weights].scale
        given, open_ = scale.copy(), np.ones(len(scale), bool)
        for neighbor in range(_NEIGHBORS):
            distance = (neighbor + 1) // 2 * (1 if neighbor % 2 else -1)
            tried = (given.view(np.int32) + np.int32(distance)).view(np.float32)
            same = [source * tried / result == tried * (source / result) for source, result in ends]
            serves = open_ & np.all(same, axis=0)
            scale[serves] = tried[serves]
            open_ &= ~serves
            if not open_.any():
                break
