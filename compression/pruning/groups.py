"""Groups of channels, formed of what the handlers of a model's layers recorded."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.layers.tracking import DependencyTracker, Variables


@dataclass(frozen=True, eq=False)
class WeightSlice:
    """The part of a weight axis that belongs to a group.

    Attributes:
        layer: Name of the layer.
        weight: Name of the weight.
        axis: Axis of the weight.
        positions: `(n,)` indices on the axis; repeated where the weight's blocks have channels of their own.
        channels: `(n,)` channel of the group at each of `positions`.
        produces: Whether a slice along the axis computes the channel, as those of a kernel's output axis do.
        reads: Whether it is multiplied with the channel and summed over channels, as that of a kernel's input axis is.
        blocks: Number of equal blocks of the weight's last axis that have channels of their own.
        block: `(n,)` the block at each of `positions`; None where there is one.
    """

    layer: str
    weight: str
    axis: int
    positions: NDArray[np.int64]
    channels: NDArray[np.int64]
    produces: bool
    reads: bool = False
    blocks: int = 1
    block: NDArray[np.int64] | None = None


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
        blocks: Number of equal consecutive parts of the channels of which each keeps as many: those of a grouped
            convolution or of group normalization.
    """

    name: str
    producers: tuple[str, ...]
    frozen: str
    within_block: bool
    slices: tuple[WeightSlice, ...]
    variables: Variables
    blocks: int = 1

    @property
    def size(self) -> int:
        return len(self.variables)

    @property
    def prunable(self) -> bool:
        return not self.frozen

    @property
    def producing(self) -> list[WeightSlice]:
        """The slices of weights that compute the channels."""
        return [each for each in self.slices if each.produces]

    @property
    def reading(self) -> list[WeightSlice]:
        """The slices of weights that are multiplied with the channels; those that compute them where nothing is."""
        return [each for each in self.slices if each.reads] or self.producing

    def step(self, round_to: int) -> int:
        """The number of channels that kept ones are a multiple of, so that widths are multiples of `round_to`."""
        repeats = math.gcd(*(len(each.positions) // self.size for each in self.slices if each.produces))
        return math.lcm(round_to // math.gcd(round_to, repeats), self.blocks)


def form_groups(tracker: DependencyTracker, bypassed: set[str]) -> tuple[tuple[Group, ...], Variables]:
    """Forms the groups: what was united is one variable, and variables of the same makers, parts and reason a group.

    Args:
        bypassed: operations that some path from the inputs to the outputs avoids.

    Returns:
        The groups in the order of the network, and the number of each of the tracker's variables, `(variables,)`.
    """
    united, balanced = list(tracker.united), list(tracker.balanced)
    while True:
        component = _components(len(tracker.owners), united)
        members = _members(tracker, component)
        blocks, mixed = _blocks([component[rows] for rows in balanced], members)
        if not mixed:
            break
        united += [(balanced[number][0], row) for number in mixed for row in balanced[number][1:]]
        balanced = [rows for number, rows in enumerate(balanced) if number not in mixed]
    for group, rows in blocks.items():
        members.variables[group] = rows.reshape(-1)
    counts = {group: len(rows) for group, rows in blocks.items()}
    return _groups(tracker, component, members, counts, bypassed), component


@dataclass(frozen=True, eq=False)
class _Members:
    """Which variables lie together.

    Attributes:
        variables: Of each group.
        makers: Numbers of the operations that make each group's.
        reasons: Why each group's must stay; empty for those that can be pruned.
        group: Group of each variable, `(variables,)`.
    """

    variables: list[Variables]
    makers: list[tuple[int, ...]]
    reasons: list[str]
    group: Variables


def _members(tracker: DependencyTracker, component: Variables) -> _Members:
    count = int(component.max()) + 1
    number = {name: index for index, name in enumerate(dict.fromkeys(tracker.owners))}
    makers, sets = _sets(component, np.array([number[name] for name in tracker.owners], dtype=np.int64), count)
    marks = [np.full(part.size, index) for index, part in enumerate(tracker.parts)]
    marked = [component[part].reshape(-1) for part in tracker.parts]
    none = np.zeros(0, dtype=np.int64)
    parts, _ = _sets(np.concatenate([none, *marked]), np.concatenate([none, *marks]), count)
    texts = ["", *dict.fromkeys(reason for _, reason in tracker.frozen)]
    reasons = np.zeros(count, dtype=np.int64)
    for raw, reason in reversed(tracker.frozen):
        reasons[component[raw]] = texts.index(reason)

    key = (makers * (parts.max() + 1) + parts) * len(texts) + reasons
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    group = np.argsort(np.argsort(first))[inverse.reshape(-1)]
    order = np.argsort(group, kind="stable")
    variables = np.split(order, np.cumsum(np.bincount(group))[:-1])
    return _Members(
        variables=variables,
        makers=[sets[makers[found[0]]] for found in variables],
        reasons=[texts[reasons[found[0]]] for found in variables],
        group=group,
    )


def _sets(component: Variables, labels: Variables, count: int) -> tuple[Variables, list[tuple[int, ...]]]:
    """The set of labels that each of `count` components has, as a number, and the sets by number."""
    span = int(labels.max(initial=0)) + 1
    owner, label = np.divmod(np.unique(component * span + labels), span)
    ends = np.searchsorted(owner, np.arange(count + 1))
    sets: dict[tuple[int, ...], int] = {(): 0, **{(each,): each + 1 for each in range(span)}}
    lengths = np.diff(ends)
    numbers = np.zeros(count, dtype=np.int64)
    numbers[lengths == 1] = label[ends[:-1][lengths == 1]] + 1
    for several in np.flatnonzero(lengths > 1).tolist():
        found = tuple(label[ends[several] : ends[several + 1]].tolist())
        numbers[several] = sets.setdefault(found, len(sets))
    return numbers, list(sets)


def _blocks(balanced: list[Variables], members: _Members) -> tuple[dict[int, Variables], list[int]]:
    """The blocks of each group, `(blocks, size)`, and the numbers of those that no group has to itself.

    Of several sets of blocks of a group the finest holds the others, or else those are mixed.
    """
    blocks: dict[int, Variables] = {}
    mixed = []
    for number, rows in sorted(enumerate(balanced), key=lambda each: -len(each[1])):
        groups = np.unique(members.group[rows])
        if all(members.reasons[group] for group in groups.tolist()):
            continue
        group = int(groups[0])
        whole = len(groups) == 1 and len(np.unique(rows)) == rows.size == len(members.variables[group])
        if whole and group not in blocks:
            blocks[group] = rows
        elif not whole or not _refines(blocks[group], rows):
            mixed.append(number)
    return blocks, mixed


def _refines(fine: Variables, coarse: Variables) -> bool:
    row = np.empty(int(coarse.max()) + 1, dtype=np.int64)
    for number, found in enumerate(coarse):
        row[found] = number
    return bool((row[fine] == row[fine[:, :1]]).all())


def _components(count: int, united: list[tuple[Variables, Variables]]) -> Variables:
    """Numbers the connected components of `count` variables in the order of their first members, `(count,)`."""
    lowest = np.arange(count, dtype=np.int64)
    if united:
        left = np.concatenate([pair[0].reshape(-1) for pair in united])
        right = np.concatenate([pair[1].reshape(-1) for pair in united])
        while (lowest[left] != lowest[right]).any():
            low = np.minimum(lowest[left], lowest[right])
            roots = lowest[left], lowest[right]
            np.minimum.at(lowest, roots[0], low)
            np.minimum.at(lowest, roots[1], low)
            while (lowest[lowest] != lowest).any():
                lowest = lowest[lowest]
    return np.unique(lowest, return_inverse=True)[1].astype(np.int64).reshape(-1)


def _groups(
    tracker: DependencyTracker, component: Variables, members: _Members, blocks: Mapping[int, int], bypassed: set[str]
) -> tuple[Group, ...]:
    names = list(dict.fromkeys(tracker.owners))
    merged = np.zeros(len(members.group), dtype=bool)
    for raw in tracker.merged:
        merged[component[raw]] = True
    slices = _weight_slices(members, {key: component[along] for key, along in tracker.weights.items()}, tracker)
    groups = []
    used: dict[str, int] = defaultdict(int)
    for number, (variables, makers) in enumerate(zip(members.variables, members.makers, strict=True)):
        first = names[makers[0]]
        avoided = all(names[maker].partition("/")[0] in bypassed for maker in makers)
        used[first] += 1
        groups.append(
            Group(
                name=first if used[first] == 1 else f"{first}/{used[first]}",
                producers=tuple(names[maker] for maker in makers),
                frozen=members.reasons[number],
                within_block=not merged[variables].any() and avoided,
                slices=tuple(slices[number]),
                variables=variables,
                blocks=blocks.get(number, 1),
            )
        )
    return tuple(groups)


def _weight_slices(
    members: _Members, weights: Mapping[tuple[str, str, int], Variables], tracker: DependencyTracker
) -> list[list[WeightSlice]]:
    """For each group the parts of weight axes with its variables."""
    channel = np.empty(len(members.group), dtype=np.int64)
    for variables in members.variables:
        channel[variables] = np.arange(len(variables))
    slices: list[list[WeightSlice]] = [[] for _ in members.variables]
    for key, along in weights.items():
        # Along the axis, in each block of the weight.
        blocks, size = np.atleast_2d(along).shape
        positions, block = np.tile(np.arange(size), blocks), np.repeat(np.arange(blocks), size)
        along = along.reshape(-1)
        group = members.group[along]
        roles = (key in tracker.producing, key in tracker.reading)
        for number in np.unique(group).tolist():
            here = group == number
            part = (blocks, block[here]) if blocks > 1 else ()
            slices[number].append(WeightSlice(*key, positions[here], channel[along[here]], *roles, *part))
    return slices
