"""The constants of the timing model: fitted to some published latencies, tested on others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slimcam.deploy.benchmark.a53.device import Device
from slimcam.deploy.benchmark.a53.latency import Constants, OperatorCost, line_ns, operator_cost
from slimcam.deploy.benchmark.a53.least_squares import nonnegative
from slimcam.deploy.benchmark.a53.profile import Profile

PUBLISHED = Path(__file__).parent / "published.json"
_ROUNDS = 50


@dataclass(frozen=True)
class Point:
    """A published latency of a model on one thread."""

    model: str
    device: Device
    ms: float
    source: str


@dataclass(frozen=True)
class Check:
    """A published latency beside the predicted one."""

    point: Point
    predicted_ms: float

    @property
    def error(self) -> float:
        """Relative; positive where the prediction is too slow."""
        return self.predicted_ms / self.point.ms - 1


Costs = Mapping[str, Sequence[OperatorCost]]
"""By model, what its operators take."""


def read_points(role: str, path: Path = PUBLISHED) -> list[Point]:
    """The published points to "fit" or to "test"."""
    content = json.loads(path.read_text())
    return [
        Point(model, Device(**content["devices"][source]), ms, content["sources"][source])
        for source, models in content[role].items()
        for model, ms in models.items()
    ]


def read_scaling(path: Path = PUBLISHED) -> dict[str, list[float]]:
    """Published ratios of the latency on one thread to that on four, by model."""
    scaling: dict[str, list[float]] = json.loads(path.read_text())["scaling_1_to_4"]
    return scaling


def costs_of(profile: Profile) -> list[OperatorCost]:
    """What each operator of a model takes."""
    return [operator_cost(profile, operator) for operator in profile.operators]


def predicted(costs: Sequence[OperatorCost], device: Device, constants: Constants) -> float:
    """Milliseconds on one thread."""
    return sum(each.ms(device, constants) for each in costs)


def fit_constants(points: Sequence[Point], costs: Costs) -> Constants:
    """The cost of each kind of miss and of a call with the least squared relative error.

    What prefetching blocks wait for depends on the cost of a line in a way that is not linear, so it is taken from the
    round before.

    Raises:
        ValueError: there are fewer points than constants.
    """
    if len(points) < 3:
        raise ValueError(f"three constants need three published points or more, not {len(points)}")
    constants = Constants(0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    published = np.array([point.ms for point in points])
    for _ in range(_ROUNDS):
        unit = replace(constants, l2_miss_ns=1.0)
        rows, known = [], []
        for point in points:
            clock = point.device.clock_mhz * 1e3
            each = costs[point.model]
            rows.append(
                [
                    sum(one.l1_misses for one in each) / clock,
                    sum(one.l2_misses for one in each) * line_ns(point.device, unit) / 1e6,
                    sum(one.calls for one in each) / clock,
                ]
            )
            known.append(sum(one.cycles / clock + one.late_ms(point.device, constants) for one in each))
        left = published - np.array(known)
        l1, l2, call = nonnegative(np.array(rows) / published[:, None], left / published)
        constants = replace(
            constants,
            l1_miss_cycles=float(l1),
            l2_miss_ns=float((l2 + constants.l2_miss_ns) / 2),
            call_cycles=float(call),
        )
    return constants


def check_points(points: Sequence[Point], costs: Costs, constants: Constants) -> list[Check]:
    """Predictions with given constants."""
    return [Check(point, predicted(costs[point.model], point.device, constants)) for point in points]


def leave_one_out(points: Sequence[Point], costs: Costs) -> list[Check]:
    """Each point predicted with constants that are fitted to the others."""
    found = []
    for point in points:
        others = [other for other in points if other is not point]
        found.extend(check_points([point], costs, fit_constants(others, costs)))
    return found


def mean_error(checks: Sequence[Check]) -> float:
    """Mean absolute relative error."""
    return float(np.mean([abs(each.error) for each in checks]))


def largest_error(checks: Sequence[Check]) -> float:
    """Largest absolute relative error."""
    return max(abs(each.error) for each in checks)


def fit_scaling(
    constants: Constants, scaling: Mapping[str, Sequence[float]], costs: Costs, device: Device
) -> Constants:
    """The narrowest interval for four threads that holds every published ratio.

    The slow end has one thread wait for memory at a time; the quick end lets `memory_streams` of them wait at once.
    """
    slow, quick, streams = 0.0, 1.0, 1.0
    for model, ratios in scaling.items():
        compute = sum(each.compute_ms(device, constants) for each in costs[model])
        memory = sum(each.memory_ms(device, constants) for each in costs[model])
        whole = compute + memory
        slow = max(slow, _share((whole / min(ratios) - memory) / compute))
        # With memory as slow as on one thread, how much of the compute stays; below nothing, memory must overlap.
        left = whole / max(ratios) - memory
        if left < compute / 4:
            streams = max(streams, memory / max(whole / max(ratios) - compute / 4, 1e-9))
    for model, ratios in scaling.items():
        compute = sum(each.compute_ms(device, constants) for each in costs[model])
        memory = sum(each.memory_ms(device, constants) for each in costs[model])
        quick = min(quick, _share(((compute + memory) / max(ratios) - memory / streams) / compute))
    return replace(constants, slowest_share=slow, quickest_share=quick, memory_streams=streams)


def _share(fraction: float) -> float:
    """Of `share + (1 - share) / 4 = fraction`, within 0 and 1."""
    return float(min(1.0, max(0.0, (4 * fraction - 1) / 3)))
