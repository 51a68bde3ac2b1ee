"""The widths of a network that is pruned in several cuts."""

from __future__ import annotations

from collections.abc import Callable

from slimcam.compression.pruning.config import Schedule
from slimcam.compression.pruning.graph import ChannelGraph
from slimcam.compression.pruning.plan import PruningPlan

_LEFT: dict[Schedule, Callable[[float, float], float]] = {
    # Every cut keeps the same share of what is there (Frankle and Carbin 2019, "The Lottery Ticket Hypothesis", 1).
    Schedule.GEOMETRIC: lambda last, done: last**done,
    Schedule.LINEAR: lambda last, done: 1 - (1 - last) * done,
    # Much at first, when much is superfluous (Zhu and Gupta 2017, "To prune, or not to prune", eq. 1).
    Schedule.POLYNOMIAL: lambda last, done: last + (1 - last) * (1 - done) ** 3,
}
"""Share of channels that is left: from the share left at the end, and how much of the way is done, 0 to 1."""


def width_schedule(
    target: PruningPlan, graph: ChannelGraph, steps: int, round_to: int, schedule: Schedule = Schedule.GEOMETRIC
) -> list[dict[str, int]]:
    """The number of channels of each group after each of several cuts; the last leaves as many as the target.

    Before the last cut each block of a group keeps two channels, or what it has: a grouped convolution or group
    normalization of one channel per block is traced as a depthwise one, whose groups are others.

    Args:
        target: what the last cut leaves.
        graph: that of the model before the first cut.
        steps: number of cuts.
        round_to: number that widths are a multiple of, as far as blocks allow.
        schedule: how widths fall.
    """
    groups = {group.name: group for group in graph.groups}

    def width(name: str, step: int) -> int:
        size, last = target.sizes[name], len(target.kept[name])
        if step == steps:
            return last
        multiple = groups[name].step(round_to)
        between = int(size * _LEFT[schedule](last / size, step / steps) / multiple + 0.5) * multiple
        return min(size, max(last, between, 2 * groups[name].blocks))

    return [{name: width(name, step) for name in target.kept} for step in range(1, steps + 1)]
