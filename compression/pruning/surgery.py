"""Cutting channels out of a Keras 3 model, and masking them, which is the proof that the cut is right."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import UnsupportedLayerError
from slimcam.compression.keras_graph import calls, deep_graphs, functional, tensor_key
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.weights import weight as find
from slimcam.compression.pruning.graph import ChannelGraph, trace
from slimcam.compression.pruning.plan import PruningPlan


def cut(model: Any, plan: PruningPlan, graph: ChannelGraph | None = None) -> Any:
    """Removes the channels that the plan does not keep: returns a new, smaller functional model with its own weights.

    Layer names, inputs, the structure of the outputs and the layers' `trainable` flags stay; the result is not
    compiled. It computes what `mask(model, plan)` computes.

    Args:
        graph: the model's, from `trace`; traced again if absent.

    Raises:
        PlanError: the plan was made for another model, or is damaged.
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
        UnsupportedLayerError: a layer cannot be rebuilt.
    """
    graph = trace(model) if graph is None else graph
    plan.validate(graph)
    return _rebuild(model, _Cut(graph, graph.kept(plan.kept)))


def mask(model: Any, plan: PruningPlan) -> Any:
    """The model at full size, with the channels that the plan does not keep set to zero in every tensor.

    Statistics over channels, as those of layer normalization, are of the channels that stay. Attention heads, which are
    in no tensor, are set to zero in the weights.

    Raises:
        PlanError: the plan was made for another model, or is damaged.
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
        UnsupportedLayerError: a layer cannot be rebuilt.
    """
    graph = trace(model)
    plan.validate(graph)
    kept = graph.kept(plan.kept)

    def zero_removed(key: str, tensor: Any) -> Any:
        channels = graph.tensors[key]
        stays = kept[channels.variables]
        if stays.all():
            return tensor
        shape = [len(stays) if axis == channels.axis else 1 for axis in range(len(tensor.shape))]
        # Not a product: a removed channel may hold 0 / 0.
        return keras.ops.where(stays.reshape(shape), tensor, keras.ops.zeros_like(tensor))

    def computed(node: Any, operation: Any) -> Any:
        spec = layer_spec(operation)
        if spec is None or spec.masked is None:
            return operation
        channels = graph.tensors[tensor_key(node.input_tensors[0])]
        stays = kept[channels.variables]
        return operation if stays.all() else spec.masked(operation, stays, channels.axis)

    masked = _rebuild(model, _Cut(graph, np.ones_like(kept)), computed, zero_removed)
    in_tensors = np.zeros_like(kept)
    for channels in graph.tensors.values():
        in_tensors[channels.variables] = True
    for (layer, name, axis), along in graph.weights.items():
        gone = ~(kept | in_tensors)[along]
        if along.ndim == 1 and gone.any():
            held = find(masked.get_layer(layer), name)
            value = np.moveaxis(keras.ops.convert_to_numpy(held).copy(), axis, 0)
            value[gone] = 0
            held.assign(np.moveaxis(value, 0, axis))
    return masked


class _Cut:
    """What stays of each layer: counts of its configuration, and positions in its weights."""

    def __init__(self, graph: ChannelGraph, kept: NDArray[np.bool_]) -> None:
        self.counts: dict[str, dict[tuple[str, int | None], int]] = defaultdict(dict)
        for (layer, key, index), variables in graph.sizes.items():
            self.counts[layer][key, index] = int(kept[variables].sum())
        self.slices: dict[str, list[tuple[str, int, NDArray[np.bool_]]]] = defaultdict(list)
        for (layer, name, axis), variables in graph.weights.items():
            stays = kept[variables]
            if not stays.all():
                self.slices[layer].append((name, axis, stays))


def _rebuild(
    model: Any,
    staying: _Cut,
    computed: Callable[[Any, Any], Any] = lambda node, operation: operation,  # noqa: ARG005
    after: Callable[[str, Any], Any] = lambda key, tensor: tensor,  # noqa: ARG005
) -> Any:
    """Walks the model's calls and makes them again with layers that have only what stays.

    Args:
        computed: is given each call with its new layer, and gives what is called in the place of the layer.
        after: is given every tensor with its key, and gives the tensor that later calls read.
    """
    operations: dict[str, Any] = {}
    tensors: dict[int, Any] = {}
    nodes = calls(model)
    for node in nodes:
        original = node.operation
        name, known = original.name, original.name in operations
        if not known:
            operations[name] = _resized(original, staying.counts[name])
        operation = operations[name]
        if node.is_input:
            made = [operation.output]
        else:
            arguments, keywords = node.arguments.fill_in(tensors)
            spec = layer_spec(original)
            if spec is not None and spec.arguments is not None:
                arguments = spec.arguments(staying.counts[name], arguments)
            with nullcontext() if known else _built_with_weights(original, operation, staying.slices[name]):
                result = operation(*arguments, **keywords)
            instead = computed(node, operation)
            made = keras.tree.flatten(result if instead is operation else instead(*arguments, **keywords))
        for old, new in zip(node.outputs, made, strict=True):
            tensors[id(old)] = after(tensor_key(old), new)
    source = functional(model)
    # A mask adds a node after each tensor.
    with deep_graphs(2 * len(nodes)):
        rebuilt = keras.Model(
            keras.tree.map_structure(lambda tensor: tensors[id(tensor)], source.input),
            keras.tree.map_structure(lambda tensor: tensors[id(tensor)], source.output),
            name=model.name,
        )
    if not model.trainable:
        rebuilt.trainable = False
    return rebuilt


def _resized(operation: Any, counts: Mapping[tuple[str, int | None], int]) -> Any:
    """A new layer or operation of the same configuration, except for the entries that count channels."""
    spec = layer_spec(operation)
    in_arguments = spec is not None and spec.arguments is not None
    if not isinstance(operation, keras.Layer) and (not counts or in_arguments):
        # The copy starts without the calls of the original, which would keep the original network in memory.
        clone = copy.copy(operation)
        clone._inbound_nodes, clone._outbound_nodes = [], []
        return clone
    try:
        config = operation.get_config()
        for (key, index), count in counts.items():
            config[key] = count if index is None else _with_entry(config[key], index, count)
        # A function that is in this process already is no danger.
        options = {"safe_mode": False} if isinstance(operation, keras.layers.Lambda) else {}
        return type(operation).from_config(config, **options)
    except (NotImplementedError, TypeError) as error:
        raise UnsupportedLayerError(
            f"layer {operation.name!r} cannot be rebuilt from its configuration; give its class a get_config() that "
            f"names every argument of its __init__ ({error})"
        ) from error


def _with_entry(given: Any, index: int, count: int) -> tuple[int, ...]:
    """A tuple with another entry: the given one, or a new one where an option gave a number or nothing."""
    entries = list(given) if isinstance(given, (tuple, list)) else []
    entries[index : index + 1] = [count]
    return tuple(entries)


@contextmanager
def _built_with_weights(original: Any, clone: Any, slices: list[tuple[str, int, NDArray[np.bool_]]]) -> Iterator[None]:
    """Lets a layer be built in the block, and gives it the weights of the original in what stays of them.

    The initializers give them where they are known by name (`kernel_initializer`, `gamma_initializer`): random values
    that are replaced at once would take most of a cut's time.
    """
    if not isinstance(original, keras.Layer) or not original.weights:
        yield
        return
    values = {id(held): np.asarray(held) for held in original.weights}
    # Blocks first, while the last axis is whole.
    for name, axis, stays in sorted(slices, key=lambda each: -each[2].ndim):
        held = id(find(original, name))
        values[held] = _taken(values[held], axis, stays)
    named = {held.name: held for held in original.weights}
    given: set[int] = set()

    def initializer(held: Any) -> Callable[..., Any]:
        def initial(shape: tuple[int, ...], dtype: Any = None) -> Any:
            if values[id(held)].shape != tuple(shape):
                return keras.ops.zeros(shape, dtype)
            given.add(id(held))
            return values[id(held)]

        return initial

    replaced = {f"{name}_initializer": held for name, held in named.items()}
    initializers = {name: value for name, value in vars(clone).items() if name in replaced}
    vars(clone).update({name: initializer(replaced[name]) for name in initializers})
    try:
        yield
    finally:
        vars(clone).update(initializers)
    _copy_weights(original, clone, values, given)


def _copy_weights(original: Any, clone: Any, values: Mapping[int, NDArray[Any]], given: set[int]) -> None:
    old, new = original.weights, clone.weights
    if len(old) != len(new):
        raise UnsupportedLayerError(
            f"layer {original.name!r} cannot be rebuilt: it has {len(old)} weights, a new one of its configuration "
            f"{len(new)}"
        )
    for before, after in zip(old, new, strict=True):
        value = values[id(before)]
        if value.shape != tuple(after.shape):
            raise UnsupportedLayerError(
                f"layer {original.name!r} cannot be rebuilt: its weight {before.name!r} becomes {value.shape}, "
                f"the new layer's is {tuple(after.shape)}"
            )
        if id(before) not in given:
            after.assign(value)


def _taken(value: NDArray[Any], axis: int, stays: NDArray[np.bool_]) -> NDArray[Any]:
    if stays.ndim == 1:
        return value.compress(stays, axis)
    blocks = np.split(value, len(stays), axis=-1)
    return np.concatenate([block.compress(row, axis) for block, row in zip(blocks, stays, strict=True)], axis=-1)
