"""Budgets: the plan that leaves so many channels, parameters, MACs, bytes or milliseconds, found by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.keras_graph import functional
from slimcam.compression.layers.table import layer_spec
from slimcam.compression.layers.weights import weight
from slimcam.compression.pruning.config import PruningRatioConfig, Target
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.selection import blocks_of, keep_best, plan

MEASURED_TOLERANCE = 0.02
"""`Measure.tolerance` of what is measured on a device: each measurement takes a while."""

_HALVINGS = 12
_ALL = 1 - 1e-9
"""The ratio that leaves each group its minimum."""
_FULL = 0.99
"""Share of a budget from which a plan is not made larger any more."""
_FILE_BYTES, _LAYER_BYTES, _CHANNEL_BYTES = 1200, 580, 25
"""Of an int8 file, beside a byte for each weight: for itself, for each kernel, and for each channel that one writes.

Least squares over eight files of MobileNetV2, ResNet-50 and a small one, of several widths: within 0.1 % of them.
"""


@dataclass(frozen=True)
class Measure:
    """How much of a target a model has.

    Attributes:
        whole: What the unpruned model has.
        of: From a plan to what the model that it leaves has.
        tolerance: Share by which a result may stay below the budget before the search goes on.
    """

    whole: float
    of: Callable[[PruningPlan], float]
    tolerance: float = 0.0


def measure(model: Any, graph: ChannelGraph, target: str) -> Measure:
    """Counts a target without cutting: channels, parameters, MACs, or bytes of the int8 file (an estimate).

    Raises:
        CompressionError: the target is latency, which a library cannot know; or the MACs depend on an open image size.
    """
    if target == Target.LATENCY:
        raise CompressionError(
            "target=latency needs a device to measure on: give latency=..., or run the prune stage of slimcam, which "
            "asks the target of its benchmark section"
        )
    count = _COUNTS[Target(target)](model, graph)
    return Measure(
        count(np.ones(sum(group.size for group in graph.groups), dtype=bool)),
        lambda found: count(graph.kept(found.kept)),
    )


def per_cost(
    graph: ChannelGraph, scores: Mapping[str, NDArray[np.float64]], measured: Measure
) -> dict[str, NDArray[np.float64]]:
    """Scores divided by what a channel of their group costs of the target, as told by half of the group.

    Args:
        graph: the model's, from `trace`.
        scores: `(size,)` for each group in scope, by name, from `importance`.
        measured: how much of the target a plan leaves, exactly.
    """
    whole = measured.of(PruningPlan({}, {}))
    found = {}
    for group in graph.prunable:
        left = group.blocks * max(1, group.size // group.blocks // 2)
        plan = keep_best(scores, {group.name: left}, blocks_of(graph))
        saved = (whole - measured.of(plan)) / max(1, group.size - left)
        # What costs nothing stays.
        found[group.name] = scores[group.name] / max(saved, 1e-9 * whole)
    return found


def meet(
    graph: ChannelGraph, scores: Mapping[str, NDArray[np.float64]], config: PruningRatioConfig, measured: Measure | None
) -> PruningPlan:
    """The plan of a configuration: the largest network, in the order of its ratios, that meets the target.

    The ratio of channels is bisected, then the number of groups that keep the width of the next smaller ratio. Where a
    group's next step is so large that more than a hundredth of the budget is left, the others are bisected once more.

    Args:
        graph: the model's, from `trace`.
        scores: `(size,)` for each group in scope, by name, from `importance`.
        config: what is to be met.
        measured: how much of the target a plan leaves; None takes the ratio of channels as it is.

    Raises:
        CompressionError: the budget cannot be reached (how far one can go is said), or needs nothing removed.
    """
    if measured is None:
        found = plan(graph, scores, config)
        if config.ratio and found.counts == dict(found.sizes):
            raise CompressionError(
                f"the plan is empty: with ratio={config.ratio:g} rounded to round_to={config.round_to} and minimum="
                f"{config.minimum} no group loses a channel; raise ratio or lower these"
            )
        return found
    limit, known = config.limit(measured.whole), {}

    def value(found: PruningPlan) -> float:
        key = tuple(found.counts.values())
        if key not in known:
            known[key] = measured.of(found)
        return known[key]

    def enough(found: PruningPlan) -> bool:
        return limit * (1 - measured.tolerance) <= value(found) <= limit

    blocks, fixed = blocks_of(graph), dict[str, int]()

    def fits(found: PruningPlan) -> bool:
        return value(found) <= limit

    def at(ratio: float) -> PruningPlan:
        found = plan(graph, scores, replace(config, ratio=ratio))
        return keep_best(scores, {**found.counts, **fixed}, blocks, found.whole) if fixed else found

    low, high = at(0.0), at(_ALL)
    if not fits(high):
        raise CompressionError(_out_of_reach(high, value(high), measured.whole, limit, config))
    if fits(low):
        if low.counts != dict(low.sizes):  # by ratios of their own, or rounding
            return low
        raise CompressionError(
            f"target={config.target}: the model has {_amount(value(low), config)} already, within the "
            f"{_amount(limit, config)} that are allowed: nothing is to be pruned"
        )
    while True:
        small, large = _bracket(at, fits, enough)
        best, full = _between(scores, blocks, small, large, fits, enough)
        if full is None or measured.tolerance or value(best) >= _FULL * limit:
            return best
        # A further step of that group is too much, but those of others are smaller.
        fixed[full] = small.counts[full]


def _bracket(
    at: Callable[[float], PruningPlan], fits: Callable[[PruningPlan], bool], enough: Callable[[PruningPlan], bool]
) -> tuple[PruningPlan, PruningPlan]:
    """Plans of ratios next to each other, of which the first fits and the second does not, unless the least does."""
    low, high = 0.0, _ALL
    small, large = at(high), at(low)
    if fits(large):
        return large, large
    for _ in range(_HALVINGS):
        if enough(small):
            break
        ratio = (low + high) / 2
        found = at(ratio)
        if fits(found):
            high, small = ratio, found
        else:
            low, large = ratio, found
    return small, large


def _between(
    scores: Mapping[str, NDArray[np.float64]],
    blocks: Mapping[str, int],
    small: PruningPlan,
    large: PruningPlan,
    fits: Callable[[PruningPlan], bool],
    enough: Callable[[PruningPlan], bool],
) -> tuple[PruningPlan, str | None]:
    """The plan with as many of the first groups as fit at the larger width, and the group that does not any more."""
    names = [name for name in small.kept if small.counts[name] < large.counts[name]]
    low, high, best = 0, len(names), small
    while low + 1 < high and not enough(best):
        middle = (low + high) // 2
        counts = small.counts | {name: large.counts[name] for name in names[:middle]}
        found = keep_best(scores, counts, blocks, small.whole)
        if fits(found):
            low, best = middle, found
        else:
            high = middle
    return best, names[low] if names else None


def _out_of_reach(small: PruningPlan, value: float, whole: float, limit: float, config: PruningRatioConfig) -> str:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in list(small.reasons.items())[:3])
    return (
        f"target={config.target}: {_amount(limit, config)} cannot be reached; with round_to={config.round_to} and "
        f"minimum={config.minimum} one can go down to {_amount(value, config)}, {value / whole:.0%} of what it is"
        + (f" (channels that stay whole: {reasons})" if reasons else "")
    )


def _amount(value: float, config: PruningRatioConfig) -> str:
    if config.target == Target.LATENCY:
        return f"{value:.3g} ms"
    if config.target == Target.SIZE:
        return f"{value / 1e6:.3g} MB"
    return f"{round(value):,} {'MACs' if config.target == Target.MACS else config.target}"


Count = Callable[[NDArray[np.bool_]], float]
"""From which variables of a graph stay to how much of a target is left."""


def _channels(model: Any, graph: ChannelGraph) -> Count:  # noqa: ARG001
    counted = np.concatenate([group.variables for group in graph.groups if group.frozen != "model input"])
    return lambda kept: float(kept[counted].sum())


def _parameters(model: Any, graph: ChannelGraph) -> Count:
    sizes = _sizes(model, graph)
    return lambda kept: sum(size(kept) for size in sizes.values())


def _macs(model: Any, graph: ChannelGraph) -> Count:
    """A layer's MACs fall as its kernels do."""
    sizes, layers = _sizes(model, graph), {layer.name: layer for layer in functional(model).layers}
    everything = np.ones(sum(group.size for group in graph.groups), dtype=bool)
    shares: list[tuple[float, list[Count]]] = []
    for found in cost(model).layers:
        if found.macs:
            kernels = [sizes[id(each)] for each in _kernels(layers[found.name])]
            shares.append((found.macs / max(1.0, sum(size(everything) for size in kernels)), kernels))
    return lambda kept: sum(macs * sum(size(kept) for size in kernels) for macs, kernels in shares)


def _bytes(model: Any, graph: ChannelGraph) -> Count:
    """A byte for each weight of a kernel; normalization is folded into kernels and biases."""
    sizes = _sizes(model, graph)
    parts: list[Count] = []
    channels: list[Count] = []
    for layer in functional(model).layers:
        spec = layer_spec(layer)
        for kernel in spec.kernels if spec else ():
            found = weight(layer, kernel.name)
            writes = [axis % len(found.shape) for axis in kernel.writes]
            parts.append(sizes[id(found)])
            channels.append(_extent(graph, layer.name, kernel.name, {axis: found.shape[axis] for axis in writes}))
    constant = _FILE_BYTES + _LAYER_BYTES * len(parts)
    return lambda kept: (
        constant + sum(part(kept) for part in parts) + _CHANNEL_BYTES * sum(made(kept) for made in channels)
    )


_COUNTS: dict[Target, Callable[[Any, ChannelGraph], Count]] = {
    Target.CHANNELS: _channels,
    Target.PARAMETERS: _parameters,
    Target.MACS: _macs,
    Target.SIZE: _bytes,
}


def _sizes(model: Any, graph: ChannelGraph) -> dict[int, Count]:
    """The number of elements of each weight, by its identity."""
    layers = {layer.name: layer for layer in functional(model).layers}
    names = {id(weight(layers[layer], name)): name for layer, name, _ in graph.weights}
    return {
        id(each): _extent(graph, layer.name, names.get(id(each), each.name), dict(enumerate(each.shape)))
        for layer in layers.values()
        for each in layer.weights
    }


def _extent(graph: ChannelGraph, layer: str, weight: str, lengths: Mapping[int, int]) -> Count:
    """The product of the lengths of some axes of a weight."""
    along = [graph.weights[layer, weight, axis] for axis in lengths if (layer, weight, axis) in graph.weights]
    rest = math.prod(length for axis, length in lengths.items() if (layer, weight, axis) not in graph.weights)
    # Of a weight in blocks, each block has as many.
    return lambda kept: float(rest * math.prod(int(kept[np.atleast_2d(each)[0]].sum()) for each in along))


def _kernels(layer: Any) -> list[Any]:
    """The weights by which a layer's MACs go: its kernels, or all where the table tells none."""
    spec = layer_spec(layer)
    return [weight(layer, kernel.name) for kernel in spec.kernels] if spec and spec.kernels else list(layer.weights)
