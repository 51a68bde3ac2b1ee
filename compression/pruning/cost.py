"""What a model costs: parameters, and multiply-accumulate operations (MACs) for one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slimcam.compression.errors import CompressionError
from slimcam.compression.keras_graph import calls, kind
from slimcam.compression.layers.spec import no_macs
from slimcam.compression.layers.table import layer_spec


@dataclass(frozen=True)
class LayerCost:
    """One layer's cost.

    Attributes:
        name: Name of the layer.
        kind: Kind of the layer, as in the table of layer facts.
        output_shape: Shape of the first call's output, with the batch axis.
        parameters: All weights, those that are not trained included.
        macs: Multiply-accumulates of all calls; None where the table does not tell them.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    macs: int | None


@dataclass(frozen=True)
class Cost:
    """A model's cost for one image.

    Attributes:
        parameters: All weights, those of batch normalization included.
        macs: Multiply-accumulates of convolutions and dense layers; those of `uncounted` are not in it.
        layers: Layers that have either, and those of `uncounted`, in the order of computation.
        uncounted: Layers and operations whose multiply-accumulates are not known, as "name (kind)".
    """

    parameters: int
    macs: int
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{'layer':<32} {'type':<20} {'output':<20} {'parameters':>12} {'MACs':>15}"]
        for layer in self.layers:
            shape = "x".join(str(size) for size in layer.output_shape[1:])
            macs = "not counted" if layer.macs is None else f"{layer.macs:,}"
            lines.append(f"{layer.name:<32} {layer.kind:<20} {shape:<20} {layer.parameters:>12,} {macs:>15}")
        lines.append(f"{'total':<74} {self.parameters:>12,} {self.macs:>15,}")
        return "\n".join([*lines, self.remark] if self.uncounted else lines)

    @property
    def remark(self) -> str:
        """What the MACs leave out, in one line; empty where they are complete."""
        more = f" and {len(self.uncounted) - 3} more" if len(self.uncounted) > 3 else ""
        return f"not counted in the MACs: {', '.join(self.uncounted[:3])}{more}" if self.uncounted else ""


def cost(model: Any) -> Cost:
    """Counts parameters and multiply-accumulates of a functional or sequential Keras 3 model.

    Raises:
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
        CompressionError: the model leaves the size of its images open.
    """
    found: dict[str, LayerCost] = {}
    for node in calls(model):
        operation, output = node.operation, tuple(node.outputs[0].shape)
        before = found.get(operation.name)
        macs = _macs(node)
        if before is not None:
            macs = None if macs is None or before.macs is None else before.macs + macs
            output = before.output_shape
        parameters = int(operation.count_params()) if hasattr(operation, "count_params") else 0
        found[operation.name] = LayerCost(operation.name, kind(operation), output, parameters, macs)
    layers = tuple(layer for layer in found.values() if layer.parameters or layer.macs != 0)
    return Cost(
        parameters=sum(layer.parameters for layer in layers),
        macs=sum(layer.macs or 0 for layer in layers),
        layers=layers,
        uncounted=tuple(f"{layer.name} ({layer.kind})" for layer in layers if layer.macs is None),
    )


def _macs(node: Any) -> int | None:
    spec = layer_spec(node.operation)
    if spec is None or spec.macs is None:
        return None
    inputs, output = tuple(tuple(tensor.shape) for tensor in node.input_tensors), tuple(node.outputs[0].shape)
    if spec.macs is not no_macs and any(None in shape[1:] for shape in (*inputs, output)):
        raise CompressionError(
            f"the cost of layer {node.operation.name!r} depends on the size of the image, which the model leaves open: "
            "build it with a fixed input shape"
        )
    return spec.macs(node.operation, inputs, output)
