"""What a model costs: parameters, and multiply-accumulate operations for one image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from compression.keras_graph import calls, kind


@dataclass(frozen=True)
class LayerCost:
    """One layer; `macs` adds up all its calls."""

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """A model's cost for one image.

    Attributes:
        parameters: all of them, those of batch normalisation included.
        macs: multiply-accumulates of convolutions and dense layers.
        layers: those that have either, in the order of computation.
    """

    parameters: int
    macs: int
    layers: tuple[LayerCost, ...]

    def __str__(self) -> str:
        lines = [f"{'layer':<32} {'type':<20} {'output':<20} {'parameters':>12} {'MACs':>15}"]
        for layer in self.layers:
            shape = "x".join(str(size) for size in layer.output_shape[1:])
            lines.append(f"{layer.name:<32} {layer.kind:<20} {shape:<20} {layer.parameters:>12,} {layer.macs:>15,}")
        lines.append(f"{'total':<74} {self.parameters:>12,} {self.macs:>15,}")
        return "\n".join(lines)


def cost(model: Any) -> Cost:
    """Counts parameters and multiply-accumulates of a functional or sequential Keras 3 model.

    Raises:
        ValueError: the model cannot be traced, or leaves the size of its images open.
    """
    parameters: dict[str, int] = {}
    macs: dict[str, int] = {}
    shown: dict[str, tuple[str, tuple[int | None, ...]]] = {}
    for node in calls(model):
        layer = node.operation
        if not hasattr(layer, "count_params"):
            continue
        parameters[layer.name] = int(layer.count_params())
        shown.setdefault(layer.name, (kind(layer), tuple(node.outputs[0].shape)))
        macs[layer.name] = macs.get(layer.name, 0) + _macs(node)
    layers = tuple(
        LayerCost(name, *shown[name], parameters[name], macs[name]) for name in shown if parameters[name] or macs[name]
    )
    return Cost(sum(parameters.values()), sum(macs.values()), layers)


def _macs(node: Any) -> int:
    layer, name = node.operation, kind(node.operation)
    if name == "Dense":
        return _size(node, node.outputs[0].shape[1:-1]) * _weights(layer.kernel)
    if name.startswith("SeparableConv"):
        return _positions(node, node.outputs[0]) * (_weights(layer.depthwise_kernel) + _weights(layer.pointwise_kernel))
    if name.endswith("DTranspose"):
        return _positions(node, node.input_tensors[0]) * _weights(layer.kernel)
    if name.startswith(("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv")):
        return _positions(node, node.outputs[0]) * _weights(layer.kernel)
    return 0


def _weights(kernel: Any) -> int:
    return math.prod(map(int, kernel.shape))


def _positions(node: Any, tensor: Any) -> int:
    """Spatial positions: each takes one multiplication by every weight of the kernel."""
    shape = tensor.shape[2:] if node.operation.data_format == "channels_first" else tensor.shape[1:-1]
    return _size(node, shape)


def _size(node: Any, shape: tuple[int | None, ...]) -> int:
    if None in shape:
        raise ValueError(
            f"the cost of layer {node.operation.name!r} depends on the size of the image, which the model leaves open: "
            "build it with a fixed input shape"
        )
    return math.prod(size or 0 for size in shape)
