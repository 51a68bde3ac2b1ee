"""Which channels of a network belong together: channel variables, found by tracing a Keras 3 functional model.

Every channel of every tensor has a variable. Layers that compute channels make new ones, the others pass theirs on
or unite them (`slimcam.compression.layers`). Variables that became one lie in a *group* with those made by the same
layers: removing channel `i` of a group removes it from every weight that has it, and the network still fits together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.keras_graph import calls, constants, functional, kind, tensor_key
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker, Variables


@dataclass(frozen=True, eq=False)
class WeightSlice:
    """The part of a weight axis that belongs to a group.

    Attributes:
        layer: Name of the layer.
        weight: Name of the weight.
        axis: Axis of the weight.
        positions: `(n,)` indices on the axis.
        channels: `(n,)` channel of the group at each of `positions`.
        produces: Whether a slice along the axis computes the channel, as those of a kernel's output axis do.
    """

    layer: str
    weight: str
    axis: int
    positions: NDArray[np.int64]
    channels: NDArray[np.int64]
    produces: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that are pruned one by one, each from every weight that has it.

    Attributes:
        name: First layer that makes these channels, then `name/2` where a layer's channels fall in several groups.
        producers: Layers that make these channels; several where sums or gates unite theirs.
        frozen: Why the channels must stay; empty for a group that can be pruned.
        within_block: Whether the channels lie inside a block: no sum forms them, and a path from the model's inputs to
            its outputs leads around each of the producers. Neither a residual stream nor the stem lies within a block.
        slices: Parts of weight axes that belong to the group.
        variables: `(size,)` index into the graph's variables.
    """

    name: str
    producers: tuple[str, ...]
    frozen: str
    within_block: bool
    slices: tuple[WeightSlice, ...]
    variables: Variables

    @property
    def size(self) -> int:
        return len(self.variables)

    @property
    def prunable(self) -> bool:
        return not self.frozen


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The channel groups of a model, and where each variable is.

    Attributes:
        groups: Channel groups in the order of the network, the frozen ones (inputs, outputs, ...) included.
        weights: Variables along each (layer, weight, axis).
        sizes: Variables that each (layer, configuration key, index in a tuple or None) counts: a Conv2D's `filters`.
        tensors: Channels of each tensor, by `tensor_key`.
    """

    groups: tuple[Group, ...]
    weights: Mapping[tuple[str, str, int], Variables]
    sizes: Mapping[tuple[str, str, int | None], Variables]
    tensors: Mapping[str, Channels]

    @property
    def prunable(self) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if group.prunable)

    def kept(self, channels: Mapping[str, Iterable[int]]) -> NDArray[np.bool_]:
        """Which variables stay, `(variables,)`, if of each group named only these channels do."""
        kept = np.ones(sum(group.size for group in self.groups), dtype=bool)
        for group in self.groups:
            if group.name in channels:
                kept[group.variables] = False
                kept[group.variables[list(channels[group.name])]] = True
        return kept

    def __str__(self) -> str:
        lines = [f"{'group':<40} {'channels':>8} {'producers':>9}  "]
        for group in self.groups:
            note = group.frozen or ("within block" if group.within_block else "")
            lines.append(f"{group.name:<40} {group.size:>8} {len(group.producers):>9}  {note}".rstrip())
        return "\n".join(lines)


def trace(model: Any) -> ChannelGraph:
    """Finds the channel groups of a built functional or sequential Keras 3 model.

    Layers whose dependencies are not known freeze the channels that they touch; such a group's `frozen` names them.

        graph = compression.trace(model)
        scores = compression.importance(model, graph)
        plan = compression.plan(graph, scores, compression.PruningRatioConfig(ratio=0.5))
        smaller = compression.cut(model, plan)

    Compare Fang et al. 2023, "DepGraph: Towards Any Structural Pruning", whose graph is of layers.

    Raises:
        UntraceableModelError: the model is not functional, or a layer of it is a model itself.
    """
    tracker = DependencyTracker()
    tensors: dict[str, Channels] = {}
    nodes = calls(model)
    for node in nodes:
        tensors.update(zip(map(tensor_key, node.outputs), _follow(tracker, node, tensors), strict=True))
    for output in functional(model).outputs:
        tracker.freeze(tensors[tensor_key(output)].variables, "model output")

    variables = _components(len(tracker.owners), tracker.united)
    weights = {key: variables[along] for key, along in tracker.weights.items()}
    return ChannelGraph(
        groups=_groups(tracker, variables, weights, _bypassed(nodes, functional(model).outputs)),
        weights=weights,
        sizes={key: variables[counted] for key, counted in tracker.sizes.items()},
        tensors={key: Channels(channels.axis, variables[channels.variables]) for key, channels in tensors.items()},
    )


def _follow(tracker: DependencyTracker, node: Any, tensors: Mapping[str, Channels]) -> list[Channels]:
    """The channels of a call's outputs, by the layer's handler, or frozen where there is none that can."""
    operation = node.operation
    inputs = tuple(tensors[tensor_key(tensor)] for tensor in node.input_tensors)
    spec = layer_spec(operation)
    outcome: Channels | str = f"layers of type {kind(operation)} are not followed"
    if any(not len(channels.variables) for channels in inputs):
        outcome = "its input has no fixed number of channels"
    elif spec is not None and spec.dependencies is not None and len(node.outputs) == 1:
        call = Call(
            operation=operation,
            inputs=inputs,
            input_shapes=tuple(tuple(tensor.shape) for tensor in node.input_tensors),
            output_shape=tuple(node.outputs[0].shape),
            constants=constants(node),
        )
        outcome = spec.dependencies(tracker, call)
    if isinstance(outcome, Channels):
        return [outcome]
    for channels in inputs:
        tracker.freeze(channels.variables, f"read by {operation.name}: {outcome}")
    outputs = []
    for tensor in node.outputs:
        axis = len(tensor.shape) - 1
        size = (tensor.shape[axis] or 0) if axis > 0 else 0
        outputs.append(Channels(axis, tracker.new_frozen(operation.name, size, f"made by {operation.name}: {outcome}")))
    return outputs


def _components(count: int, united: list[tuple[Variables, Variables]]) -> Variables:
    """Numbers the connected components of `count` variables in the order of their first members, `(count,)`."""
    lowest = np.arange(count, dtype=np.int64)
    if united:
        left = np.concatenate([pair[0] for pair in united])
        right = np.concatenate([pair[1] for pair in united])
        while (lowest[left] != lowest[right]).any():
            low = np.minimum(lowest[left], lowest[right])
            roots = lowest[left], lowest[right]
            np.minimum.at(lowest, roots[0], low)
            np.minimum.at(lowest, roots[1], low)
            while (lowest[lowest] != lowest).any():
                lowest = lowest[lowest]
    return np.unique(lowest, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _bypassed(nodes: list[Any], outputs: list[Any]) -> set[str]:
    """Operations that some path from the inputs to the outputs avoids: each of their calls lies on fewer than all."""
    before: dict[str, int] = {}
    for node in nodes:
        paths = sum(before[tensor_key(tensor)] for tensor in node.input_tensors) if node.input_tensors else 1
        before.update((tensor_key(tensor), paths) for tensor in node.outputs)
    after: dict[str, int] = defaultdict(int)
    for tensor in outputs:
        after[tensor_key(tensor)] += 1
    for node in reversed(nodes):
        paths = sum(after[tensor_key(tensor)] for tensor in node.outputs)
        for tensor in node.input_tensors:
            after[tensor_key(tensor)] += paths
    total = sum(before[tensor_key(tensor)] for tensor in outputs)
    bypassed = {node.operation.name for node in nodes}
    for node in nodes:
        if sum(before[key] * after[key] for key in map(tensor_key, node.outputs)) >= total:
            bypassed.discard(node.operation.name)
    return bypassed


def _groups(
    tracker: DependencyTracker,
    component: Variables,
    weights: Mapping[tuple[str, str, int], Variables],
    bypassed: set[str],
) -> tuple[Group, ...]:
    count = int(component.max()) + 1
    names = list(dict.fromkeys(tracker.owners))
    number = {name: index for index, name in enumerate(names)}
    owner = np.array([number[name] for name in tracker.owners], dtype=np.int64)
    owners: list[list[int]] = [[] for _ in range(count)]
    for variable, maker in np.unique(np.stack([component, owner], axis=1), axis=0).tolist():
        owners[variable].append(maker)
    reasons = [""] * count
    for raw, reason in reversed(tracker.frozen):
        for variable in component[raw].tolist():
            reasons[variable] = reason
    merged = np.zeros(count, dtype=bool)
    for raw in tracker.merged:
        merged[component[raw]] = True

    members: dict[tuple[tuple[int, ...], str], list[int]] = defaultdict(list)
    for variable in range(count):
        members[tuple(owners[variable]), reasons[variable]].append(variable)
    slices = _weight_slices(list(members.values()), weights, tracker.producing)
    groups = []
    used: dict[str, int] = defaultdict(int)
    for ((makers, reason), variables), found in zip(members.items(), slices, strict=True):
        first = names[makers[0]]
        used[first] += 1
        groups.append(
            Group(
                name=first if used[first] == 1 else f"{first}/{used[first]}",
                producers=tuple(names[maker] for maker in makers),
                frozen=reason,
                within_block=not merged[variables].any() and all(names[maker] in bypassed for maker in makers),
                slices=found,
                variables=np.array(variables, dtype=np.int64),
            )
        )
    return tuple(groups)


def _weight_slices(
    groups: list[list[int]],
    weights: Mapping[tuple[str, str, int], Variables],
    producing: set[tuple[str, str, int]],
) -> list[tuple[WeightSlice, ...]]:
    """For each group the parts of weight axes with its variables."""
    count = sum(map(len, groups))
    group_of, channel_of = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    for index, variables in enumerate(groups):
        group_of[variables] = index
        channel_of[variables] = np.arange(len(variables))
    slices: list[list[WeightSlice]] = [[] for _ in groups]
    for (layer, weight, axis), along in weights.items():
        for group in np.unique(group_of[along]).tolist():
            positions = np.flatnonzero(group_of[along] == group)
            channels = channel_of[along[positions]]
            produces = (layer, weight, axis) in producing
            slices[group].append(WeightSlice(layer, weight, axis, positions, channels, produces))
    return [tuple(found) for found in slices]
