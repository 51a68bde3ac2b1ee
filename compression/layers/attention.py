"""Attention, of which whole heads are pruned."""

from __future__ import annotations

import math
from typing import Any

from slimcam.compression.layers.spec import LayerSpec
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker, Shape
from slimcam.compression.layers.weights import weight

_MAKING = ("query", "key", "value", "gate")
"""Projections with kernels `(channels, heads, size)`; `attention_output` has `(heads, size, channels)`."""


def _multi_head_attention(tracker: DependencyTracker, call: Call) -> Channels | str:
    """Heads are channels of their own, which no tensor has; inputs and output go as those of dense layers."""
    layer, rank = call.operation, len(call.output_shape)
    places = {name: place for place, name in enumerate(_names(call))}
    if len(call.output_shapes) > 1 or not {"query", "value"} <= set(places) <= {"query", "key", "value"}:
        return "attention with a mask or with scores is not followed"
    if any(len(shape) != rank for shape in call.input_shapes) or weight(layer, "attention_output/kernel").ndim != 3:
        return "its inputs and its output have different ranks"
    heads = tracker.produce(layer, "query/kernel", 1, part="heads")
    for name in _MAKING:
        place = places.get(name, places["query" if name == "gate" else "value"])
        tracker.add_slice(layer, f"{name}/kernel", 0, tracker.read(call, rank - 1, place), reads=True)
        tracker.add_slice(layer, f"{name}/kernel", 1, heads, produces=True)
        tracker.add_slice(layer, f"{name}/bias", 0, heads)
    made = tracker.produce(layer, "attention_output/kernel", 2)
    tracker.add_slice(layer, "attention_output/kernel", 0, heads, reads=True)
    tracker.add_slice(layer, "attention_output/bias", 0, made)
    tracker.add_size(layer, "num_heads", heads)
    tracker.add_size(layer, "output_shape", made, 0)
    return Channels(rank - 1, made)


def _names(call: Call) -> list[str]:
    """Which argument each input is."""
    order = iter(("query", "value", "key", "query_mask"))
    return [name or next(order) for name in call.keywords]


def _attention_macs(layer: Any, inputs: tuple[Shape, ...], output: Shape) -> int:
    """Projections, the products of queries and keys, and those of weights and values."""
    steps, attended = (math.prod(size or 0 for size in shape[1:-1]) for shape in (output, inputs[-1]))
    macs: int = 0
    for name in (*_MAKING, "attention_output"):
        kernel = weight(layer, f"{name}/kernel")
        if kernel is not None:
            macs += math.prod(kernel.shape) * (attended if name in ("key", "value") else steps)
    return macs + int(steps * attended * layer.num_heads * (layer.key_dim + layer.value_dim))


LAYERS: dict[str, LayerSpec] = {"MultiHeadAttention": LayerSpec(_multi_head_attention, _attention_macs)}
