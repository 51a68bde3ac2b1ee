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

from slimcam.compression.keras_graph import calls, constants, functional, keywords, kind, tensor_key
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.tracking import Call, Channels, DependencyTracker, Variables
from slimcam.compression.pruning.groups import Group, form_groups


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """The channel groups of a model, and where each variable is.

    Attributes:
        groups: Channel groups in the order of the network, the frozen ones (inputs, outputs, ...) included.
        weights: Variables along each (layer, weight, axis), `(size,)` or, by blocks of the last axis, `(blocks, size)`.
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

    groups, variables = form_groups(tracker, _bypassed(nodes, functional(model).outputs))
    return ChannelGraph(
        groups=groups,
        weights={key: variables[along] for key, along in tracker.weights.items()},
        sizes={key: variables[counted] for key, counted in tracker.sizes.items()},
        tensors={key: Channels(channels.axis, variables[channels.variables]) for key, channels in tensors.items()},
    )


def _follow(tracker: DependencyTracker, node: Any, tensors: Mapping[str, Channels]) -> list[Channels]:
    """The channels of a call's outputs, by the layer's handler, or frozen where there is none that can."""
    operation = node.operation
    inputs = tuple(tensors[tensor_key(tensor)] for tensor in node.input_tensors)
    spec = layer_spec(operation)
    outcome: Channels | tuple[Channels, ...] | str = f"layers of type {kind(operation)} are not followed"
    if any(not len(channels.variables) for channels in inputs):
        outcome = "its input has no fixed number of channels"
    elif spec is not None and spec.dependencies is not None:
        call = Call(
            operation=operation,
            inputs=inputs,
            input_shapes=tuple(tuple(tensor.shape) for tensor in node.input_tensors),
            output_shapes=tuple(tuple(tensor.shape) for tensor in node.outputs),
            constants=constants(node),
            positional=tuple(node.arguments.args),
            keywords=keywords(node),
        )
        outcome = spec.dependencies(tracker, call)
    found = (outcome,) if isinstance(outcome, Channels) else outcome
    if not isinstance(found, str) and len(found) == len(node.outputs):
        return list(found)
    reason = found if isinstance(found, str) else f"it has {len(node.outputs)} outputs"
    for channels in inputs:
        tracker.freeze(channels.variables, f"read by {operation.name}: {reason}")
    outputs = []
    for tensor in node.outputs:
        axis = len(tensor.shape) - 1
        size = (tensor.shape[axis] or 0) if axis > 0 else 0
        outputs.append(Channels(axis, tracker.new_frozen(operation.name, size, f"made by {operation.name}: {reason}")))
    return outputs


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
