"""From the importance of channels to the plan that removes a share of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError
from slimcam.compression.pruning.config import Allocation, PruningRatioConfig, Scope
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.groups import Group
from slimcam.compression.pruning.plan import PruningPlan, Whole
from slimcam.deploy.common.messages import did_you_mean

Scores = Mapping[str, NDArray[np.float64]]


def plan(graph: ChannelGraph, scores: Scores, config: PruningRatioConfig) -> PruningPlan:
    """Decides which channels stay: in each group those of the highest scores.

    The ratio is taken to be of channels, whatever the target: `slimcam.compression.pruning.budget.meet` finds the one
    that meets a budget.

    Args:
        graph: the model's, from `trace`.
        scores: `(size,)` for each group in scope, by name, from `importance`.
        config: how many channels are removed, and from where.

    Raises:
        CompressionError: no group is in scope, or a pattern matches none.
        ValueError: a group has no scores.
    """
    whole = _whole(graph, config)
    groups = [group for group in graph.groups if group.name not in whole and group.prunable]
    if not groups:
        raise CompressionError(f"nothing to prune {_why_nothing(graph, config)}")
    for group in groups:
        if np.shape(scores.get(group.name, ())) != (group.size,):
            raise ValueError(
                f"group {group.name!r} needs {group.size} scores, got {np.size(scores.get(group.name, ()))}"
            )
    own = _own_ratios(groups, config)
    others = [group for group in groups if group.name not in own]
    counts = {
        group.name: _rounded((1 - own[group.name]) * group.size, group, config) for group in groups if group.name in own
    }
    counts |= _counts(others, scores, config) if others else {}
    wanted = {group.name: counts[group.name] for group in groups}
    return keep_best(scores, wanted, blocks_of(graph), whole)


def blocks_of(graph: ChannelGraph) -> dict[str, int]:
    """The number of blocks of each group."""
    return {group.name: group.blocks for group in graph.groups}


def keep_best(
    scores: Scores,
    counts: Mapping[str, int],
    blocks: Mapping[str, int] | None = None,
    whole: Mapping[str, Whole] | None = None,
) -> PruningPlan:
    """The plan that keeps so many channels of each named group: those of the highest scores.

    Args:
        scores: `(size,)` by group name.
        counts: number of channels to keep, by group name.
        blocks: blocks of a group, of which each keeps as many; one where absent.
        whole: groups that were not to be pruned.
    """
    best = {name: _best(scores[name], count, (blocks or {}).get(name, 1)) for name, count in counts.items()}
    return PruningPlan(
        kept={name: tuple(sorted(channels.tolist())) for name, channels in best.items()},
        sizes={name: len(scores[name]) for name in counts},
        whole=whole or {},
    )


def _best(scores: NDArray[np.float64], count: int, blocks: int) -> NDArray[np.int64]:
    ranking = np.argsort(-scores.reshape(blocks, -1), axis=1, kind="stable")[:, : count // blocks]
    return np.asarray(ranking + np.arange(blocks)[:, np.newaxis] * (len(scores) // blocks)).reshape(-1)


def matches(group: Group, pattern: str) -> bool:
    """Whether a pattern (`*`, `?`, `[...]`) is for a group: for its name, or that of a layer that makes it."""
    return any(fnmatchcase(name, pattern) for name in (group.name, *group.producers))


def _whole(graph: ChannelGraph, config: PruningRatioConfig) -> dict[str, Whole]:
    """The groups that are not to be pruned, and why; the model's input is none of them."""
    for pattern in config.keep:
        _require_match(pattern, "keep", graph.groups)
    found = {}
    for group in graph.groups:
        kept_by = next((pattern for pattern in config.keep if matches(group, pattern)), None)
        if not group.prunable:
            if group.frozen != "model input":
                found[group.name] = Whole(group.size, group.frozen)
        elif kept_by is not None:
            found[group.name] = Whole(group.size, f"keep={kept_by}")
        elif config.scope == Scope.INNER and not group.within_block:
            found[group.name] = Whole(group.size, "outside blocks (scope=inner)")
    return found


def _why_nothing(graph: ChannelGraph, config: PruningRatioConfig) -> str:
    if not graph.prunable:
        return "in this model: all groups of channels must stay"
    if config.scope == Scope.INNER and not any(group.within_block for group in graph.prunable):
        return "with scope=inner: no block of the model has a shortcut around it; use scope=all"
    return f"with scope={config.scope} and keep={list(config.keep)}: they leave no group; name fewer patterns"


def _own_ratios(groups: Sequence[Group], config: PruningRatioConfig) -> dict[str, float]:
    """The ratio of each group that a pattern gives one: the first that matches."""
    for pattern in config.ratios:
        _require_match(pattern, "ratios", groups)
    found: dict[str, float] = {}
    for group in groups:
        for pattern, ratio in config.ratios.items():
            if matches(group, pattern):
                found.setdefault(group.name, ratio)
    return found


def _require_match(pattern: str, option: str, groups: Iterable[Group]) -> None:
    names = sorted({name for group in groups for name in (group.name, *group.producers)})
    if not any(fnmatchcase(name, pattern) for name in names):
        raise CompressionError(
            f"{option}: no group of channels that can be pruned, or layer that makes one, matches {pattern!r}"
            f"{did_you_mean(pattern.strip('*?'), names)}"
        )


def _rounded(wanted: float, group: Group, config: PruningRatioConfig) -> int:
    """The multiple of a group's step nearest to the wanted count, at least one of them, never more than there are."""
    step = group.step(config.round_to)
    multiple = max(1, int(wanted / step + 0.5)) * step
    least = -(-config.minimum // group.blocks) * group.blocks
    return min(group.size, max(multiple, least))


def _counts(groups: list[Group], scores: Scores, config: PruningRatioConfig) -> dict[str, int]:
    if config.allocation == Allocation.UNIFORM:
        found = [_rounded((1 - config.ratio) * group.size, group, config) for group in groups]
    else:
        found = _global_counts(groups, scores, config)
    return {group.name: count for group, count in zip(groups, found, strict=True)}


def _global_counts(groups: list[Group], scores: Scores, config: PruningRatioConfig) -> list[int]:
    """Keeps the best channels of all groups; how many is chosen so that the rounded counts meet the ratio."""
    owner = np.concatenate([np.full(group.size, index) for index, group in enumerate(groups)])
    ranking = owner[np.argsort(-np.concatenate([scores[group.name] for group in groups]), kind="stable")]
    target = (1 - config.ratio) * len(owner)

    def counts(best: int) -> list[int]:
        wanted = np.bincount(ranking[:best], minlength=len(groups))
        return [_rounded(float(count), group, config) for count, group in zip(wanted, groups, strict=True)]

    # The rounded total grows with the number of best channels: bisect for the first that reaches the target.
    low, high = 0, len(owner)
    while low < high:
        middle = (low + high) // 2
        if sum(counts(middle)) < target:
            low = middle + 1
        else:
            high = middle
    return min((counts(max(low - 1, 0)), counts(low)), key=lambda found: abs(sum(found) - target))
