"""Cutting channels out of a Keras 3 model, and masking them, which is the proof that the cut is right."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import UnsupportedLayerError
from slimcam.compression.keras_graph import calls, functional, tensor_key
from slimcam.compression.pruning.graph import ChannelGraph, trace
from slimcam.compression.pruning.plan import PruningPlan


def cut(model: Any, plan: PruningPlan) -> Any:
    """Removes the channels that the plan does not keep: returns a new, smaller functional model with its own weights.

    Layer names, inputs, the structure of the outputs and the layers' `trainable` flags stay; the result is not
    compiled. It computes what `mask(model, plan)` computes.

    Raises:
        PlanError: the plan was made for another model, or is damaged.
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
        UnsupportedLayerError: a layer cannot be rebuilt.
    """
    graph, kept = _decide(model, plan)
    return _rebuild(model, graph, kept)


def mask(model: Any, plan: PruningPlan) -> Any:
    """The model at full size, with the channels that the plan does not keep set to zero in every tensor.

    Raises:
        PlanError: the plan was made for another model, or is damaged.
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
        UnsupportedLayerError: a layer cannot be rebuilt.
    """
    graph, kept = _decide(model, plan)

    def zero_removed(key: str, tensor: Any) -> Any:
        channels = graph.tensors[key]
        stays = kept[channels.variables]
        if stays.all():
            return tensor
        shape = [len(stays) if axis == channels.axis else 1 for axis in range(len(tensor.shape))]
        # Not a product: a removed channel may hold 0 / 0.
        return keras.ops.where(stays.reshape(shape), tensor, keras.ops.zeros_like(tensor))

    return _rebuild(model, graph, np.ones_like(kept), zero_removed)


def _decide(model: Any, plan: PruningPlan) -> tuple[ChannelGraph, NDArray[np.bool_]]:
    graph = trace(model)
    plan.validate(graph)
    return graph, graph.kept(plan.kept)


def _rebuild(
    model: Any,
    graph: ChannelGraph,
    kept: NDArray[np.bool_],
    after: Callable[[str, Any], Any] = lambda key, tensor: tensor,  # noqa: ARG005
) -> Any:
    """Walks the model's calls and makes them again with layers that have only the kept variables.

    Args:
        after: is given every tensor with its key, and gives the tensor that later calls read.
    """
    operations: dict[str, Any] = {}
    tensors: dict[int, Any] = {}
    for node in calls(model):
        original = node.operation
        known = original.name in operations
        if not known:
            operations[original.name] = _resized(original, graph, kept)
        operation = operations[original.name]
        if node.is_input:
            made = [operation.output]
        else:
            arguments, keywords = node.arguments.fill_in(tensors)
            made = keras.tree.flatten(operation(*arguments, **keywords))
        if not known and isinstance(original, keras.Layer):
            _copy_weights(original, operation, graph, kept)
        for old, new in zip(node.outputs, made, strict=True):
            tensors[id(old)] = after(tensor_key(old), new)
    source = functional(model)
    rebuilt = keras.Model(
        keras.tree.map_structure(lambda tensor: tensors[id(tensor)], source.input),
        keras.tree.map_structure(lambda tensor: tensors[id(tensor)], source.output),
        name=model.name,
    )
    if not model.trainable:
        rebuilt.trainable = False
    return rebuilt


def _resized(operation: Any, graph: ChannelGraph, kept: NDArray[np.bool_]) -> Any:
    """A new layer of the same configuration, except for the entries that count channels."""
    if not isinstance(operation, keras.Layer):
        # Operations have no weights and, where they are followed, no sizes. The copy starts without the calls of the
        # original, which would keep the original network in memory.
        clone = copy.copy(operation)
        clone._inbound_nodes, clone._outbound_nodes = [], []
        return clone
    try:
        config = operation.get_config()
        for (layer, key, index), variables in graph.sizes.items():
            if layer == operation.name:
                count = int(kept[variables].sum())
                config[key] = count if index is None else (*config[key][:index], count, *config[key][index + 1 :])
        return type(operation).from_config(config)
    except (NotImplementedError, TypeError) as error:
        raise UnsupportedLayerError(
            f"layer {operation.name!r} cannot be rebuilt from its configuration; give its class a get_config() that "
            f"names every argument of its __init__ ({error})"
        ) from error


def _copy_weights(original: Any, clone: Any, graph: ChannelGraph, kept: NDArray[np.bool_]) -> None:
    slices: dict[str, list[tuple[int, NDArray[np.int64]]]] = defaultdict(list)
    for (layer, weight, axis), variables in graph.weights.items():
        if layer == original.name:
            slices[weight].append((axis, np.flatnonzero(kept[variables])))
    if len(original.weights) != len(clone.weights):
        raise UnsupportedLayerError(
            f"layer {original.name!r} cannot be rebuilt: it has {len(original.weights)} weights, "
            f"a new one of its configuration {len(clone.weights)}"
        )
    for old, new in zip(original.weights, clone.weights, strict=True):
        value = keras.ops.convert_to_numpy(old)
        for axis, positions in slices[old.name]:
            value = np.take(value, positions, axis)
        if value.shape != tuple(new.shape):
            raise UnsupportedLayerError(
                f"layer {original.name!r} cannot be rebuilt: its weight {old.name!r} becomes {value.shape}, "
                f"the new layer's is {tuple(new.shape)}"
            )
        new.assign(value)
