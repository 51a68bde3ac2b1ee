"""The table of layer facts, and the door for layers of users."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from slimcam.compression.keras_graph import kind, kind_of
from slimcam.compression.layers import attention, elementwise, kernels, normalization, shapes, spatial
from slimcam.compression.layers.outputs import OUTPUTS
from slimcam.compression.layers.spec import LayerSpec
from slimcam.compression.normal_form import activations, convolutions, operations
from slimcam.compression.normal_form import normalization as norms
from slimcam.compression.normal_form import spatial as pooling

_FACTS: dict[str, LayerSpec] = {
    **shapes.LAYERS,
    **kernels.LAYERS,
    **attention.LAYERS,
    **normalization.LAYERS,
    **elementwise.LAYERS,
    **spatial.LAYERS,
}
_FLAT = {**convolutions.FLAT, **operations.FLAT, **pooling.FLAT}
_INT8 = {**activations.INT8, **convolutions.INT8, **norms.INT8, **operations.INT8, **pooling.INT8}

LAYERS: dict[str, LayerSpec] = {
    name: replace(_FACTS.get(name, LayerSpec()), flat=_FLAT.get(name), int8=_INT8.get(name), output=OUTPUTS.get(name))
    for name in (*_FACTS, *sorted({*_FLAT, *_INT8} - set(_FACTS)))
}
"""The facts of each kind of layer or operation, by `keras_graph.kind`."""


def layer_spec(operation: Any) -> LayerSpec | None:
    """The facts of a layer or operation; None where the table does not know its kind."""
    return LAYERS.get(kind(operation))


def register_layer(layer: type, spec: LayerSpec) -> None:
    """Enters a layer class in the table of facts, so that its channels are pruned and its work is counted.

    For a layer `Scale` with a weight `scale`, one factor per channel:

        def follow(tracker, call):
            tracker.add_slice(call.operation, "scale", 0, call.inputs[0].variables)
            return call.inputs[0]
        compression.register_layer(Scale, compression.LayerSpec(follow, macs=compression.no_macs))

    An option of the layer that counts channels is recorded by `tracker.add_size(call.operation, "option", variables)`.
    The layer is rebuilt by its `get_config`, which must name every argument of its `__init__`.

    Args:
        layer: a class of Keras layers; its subclasses are other kinds and need entries of their own. A later entry of
            the same class replaces this one.
        spec: what is known of it; what is left out is reported by name wherever it is needed.

    Raises:
        TypeError: `layer` is no class, or `spec` no `LayerSpec`.
    """
    if not isinstance(layer, type) or not isinstance(spec, LayerSpec):
        raise TypeError(f"register_layer takes a layer class and a LayerSpec; got {layer!r} and {spec!r}")
    LAYERS[kind_of(layer)] = spec
