"""The widths of a network that is pruned in several cuts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from slimcam.compression.pruning.config import Schedule
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
    target: PruningPlan, steps: int, round_to: Mapping[str, int], schedule: Schedule = Schedule.GEOMETRIC
) -> list[dict[str, int]]:
    """The number of channels of each group after each of several cuts, rounded to a multiple of the group's entry in
    `round_to`.

    The last cut leaves as many as the target.
    """

    def width(name: str, step: int) -> int:
        size, last = target.sizes[name], len(target.kept[name])
        if step == steps:
            return last
        between = size * _LEFT[schedule](last / size, step / steps)
        return min(size, max(last, int(between / round_to[name] + 0.5) * round_to[name]))

    return [{name: width(name, step) for name in target.kept} for step in range(1, steps + 1)]
