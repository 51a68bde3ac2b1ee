"""Which channels are removed: from importance scores to a plan that can be printed, saved and applied again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.errors import CompressionError, DamagedPlanError, OtherModelError, PlanError
from slimcam.compression.pruning.config import Allocation, PruningRatioConfig, Scope
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.groups import Group
from slimcam.deploy.common.files import write_text


@dataclass(frozen=True)
class PruningPlan:
    """The channels that stay, for each group that the plan speaks of; all others keep theirs.

    Attributes:
        kept: Sorted indices of the channels that stay, by group name.
        sizes: Number of channels before the cut, by group name.
    """

    kept: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]

    def validate(self, graph: ChannelGraph) -> None:
        """Checks that the plan was made for this graph.

        Raises:
            OtherModelError: a group is missing or has another size.
            DamagedPlanError: the indices do not fit the group.
            PlanError: a group must stay whole.
        """
        groups = {group.name: group for group in graph.groups}
        if set(self.kept) != set(self.sizes):
            raise DamagedPlanError("the pruning plan is damaged: it names kept channels and sizes of different groups")
        for name, channels in self.kept.items():
            if name not in groups:
                raise OtherModelError(f"the pruning plan is for another model: this one has no channel group {name!r}")
            group = groups[name]
            if self.sizes[name] != group.size:
                raise OtherModelError(
                    f"the pruning plan is for another model: its group {name!r} has {self.sizes[name]} channels, "
                    f"this model's has {group.size}"
                )
            if (
                not channels
                or list(channels) != sorted(set(channels))
                or not 0 <= channels[0] <= channels[-1] < group.size
            ):
                raise DamagedPlanError(
                    f"the pruning plan is damaged: group {name!r} must keep one or more of its channels 0 to "
                    f"{group.size - 1}, each named once in ascending order"
                )
            in_blocks = np.bincount(np.array(channels) * group.blocks // group.size, minlength=group.blocks)
            if in_blocks.min() < in_blocks.max():
                raise PlanError(
                    f"group {name!r} lies in {group.blocks} blocks, of which each keeps as many channels as the "
                    f"others; the plan keeps {in_blocks.min()} to {in_blocks.max()}"
                )
            if group.frozen and len(channels) < group.size:
                raise PlanError(
                    f"group {name!r} cannot be pruned ({group.frozen}), but the plan removes channels of it"
                )

    def then(self, later: PruningPlan) -> PruningPlan:
        """The one plan that amounts to this one and, on what it leaves, a later one.

        Raises:
            OtherModelError: the later plan is not for what this one leaves.
        """
        if {name: len(channels) for name, channels in self.kept.items()} != dict(later.sizes):
            raise OtherModelError("the second pruning plan is not for the model that the first one leaves")
        kept = {name: tuple(channels[i] for i in later.kept[name]) for name, channels in self.kept.items()}
        return PruningPlan(kept=kept, sizes=self.sizes)

    def to_json(self) -> str:
        return json.dumps({"kept": dict(self.kept), "sizes": dict(self.sizes)})

    @classmethod
    def from_json(cls, text: str) -> PruningPlan:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: the text is not a plan.
        """
        try:
            data = json.loads(text)
            return cls(
                kept={name: tuple(int(channel) for channel in channels) for name, channels in data["kept"].items()},
                sizes={name: int(size) for name, size in data["sizes"].items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedPlanError(
                f"not a pruning plan: expected JSON with 'kept' and 'sizes' by group name ({error!r})"
            ) from error

    def save(self, path: Path) -> None:
        """Writes the plan as JSON, atomically."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> PruningPlan:
        """Reads a plan.

        Raises:
            OSError: the file cannot be read.
            DamagedPlanError: it is not a plan.
        """
        try:
            return cls.from_json(path.read_text())
        except (DamagedPlanError, UnicodeDecodeError) as error:
            raise DamagedPlanError(f"{path}: {error}") from error

    def __str__(self) -> str:
        rows = [(name, self.sizes[name], len(channels)) for name, channels in self.kept.items()]
        rows.append(("total", sum(row[1] for row in rows), sum(row[2] for row in rows)))
        width = max(len(row[0]) for row in rows)
        lines = [f"{'group':<{width}} {'channels':>8} {'kept':>6} {'removed':>8}"]
        for name, size, kept in rows:
            lines.append(f"{name:<{width}} {size:>8} {kept:>6} {1 - kept / max(size, 1):>8.0%}")
        return "\n".join(lines)


def plan(graph: ChannelGraph, scores: Mapping[str, NDArray[np.float64]], config: PruningRatioConfig) -> PruningPlan:
    """Decides which channels stay: in each group those of the highest scores.

    Args:
        graph: the model's, from `trace`.
        scores: `(size,)` for each group in scope, by name, from `importance`.
        config: how many channels are removed, and from where.

    Raises:
        CompressionError: no group is in scope.
        ValueError: a group has no scores.
    """
    groups = [group for group in graph.prunable if config.scope == Scope.ALL or group.within_block]
    if not groups:
        raise CompressionError(
            f"nothing to prune with scope={config.scope}: "
            + (
                "no block of the model has a shortcut around it; use scope=all"
                if graph.prunable
                else "all groups must stay"
            )
        )
    for group in groups:
        if np.shape(scores.get(group.name, ())) != (group.size,):
            raise ValueError(
                f"group {group.name!r} needs {group.size} scores, got {np.size(scores.get(group.name, ()))}"
            )
    if config.allocation == Allocation.GLOBAL:
        counts = _global_counts(groups, scores, config)
    else:
        counts = [_rounded((1 - config.ratio) * group.size, group, config) for group in groups]
    kept = {group.name: count for group, count in zip(groups, counts, strict=True)}
    return keep_best(scores, kept, {group.name: group.blocks for group in groups})


def keep_best(
    scores: Mapping[str, NDArray[np.float64]], counts: Mapping[str, int], blocks: Mapping[str, int] | None = None
) -> PruningPlan:
    """The plan that keeps so many channels of each named group: those of the highest scores.

    Args:
        scores: `(size,)` by group name.
        counts: number of channels to keep, by group name.
        blocks: blocks of a group, of which each keeps as many; one where absent.
    """
    best = {name: _best(scores[name], count, (blocks or {}).get(name, 1)) for name, count in counts.items()}
    return PruningPlan(
        kept={name: tuple(sorted(channels.tolist())) for name, channels in best.items()},
        sizes={name: len(scores[name]) for name in counts},
    )


def _best(scores: NDArray[np.float64], count: int, blocks: int) -> NDArray[np.int64]:
    ranking = np.argsort(-scores.reshape(blocks, -1), axis=1, kind="stable")[:, : count // blocks]
    return np.asarray(ranking + np.arange(blocks)[:, np.newaxis] * (len(scores) // blocks)).reshape(-1)


def width_schedule(target: PruningPlan, steps: int, round_to: Mapping[str, int]) -> list[dict[str, int]]:
    """The number of channels of each group after each of several cuts, the last of which leaves as many as the target.

    Every cut keeps the same share of what is there (Frankle and Carbin 2019, "The Lottery Ticket Hypothesis", section
    1), rounded to a multiple of the group's entry in `round_to`.
    """

    def width(name: str, step: int) -> int:
        size, last = target.sizes[name], len(target.kept[name])
        if step == steps:
            return last
        between = size * (last / size) ** (step / steps)
        return min(size, max(last, int(between / round_to[name] + 0.5) * round_to[name]))

    return [{name: width(name, step) for name in target.kept} for step in range(1, steps + 1)]


def _rounded(wanted: float, group: Group, config: PruningRatioConfig) -> int:
    """The multiple of a group's step nearest to the wanted count, at least one of them, never more than there are."""
    step = group.step(config.round_to)
    multiple = max(1, int(wanted / step + 0.5)) * step
    least = -(-config.minimum // group.blocks) * group.blocks
    return min(group.size, max(multiple, least))


def _global_counts(
    groups: list[Group], scores: Mapping[str, NDArray[np.float64]], config: PruningRatioConfig
) -> list[int]:
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
