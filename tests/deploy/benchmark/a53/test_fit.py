"""The timing model against published measurements: its errors stay where the documentation says they are."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from slimcam.deploy.benchmark.a53.fit import (
    check_points,
    fit_constants,
    fit_scaling,
    leave_one_out,
    mean_error,
    predicted,
    read_points,
    read_scaling,
)
from slimcam.deploy.benchmark.a53.latency import OperatorCost, predict_threads_ms, read_constants
from slimcam.deploy.benchmark.a53.profile import Profile

Costs = dict[str, list[OperatorCost]]


def test_every_published_model_has_a_profile(profiles: dict[str, Profile]) -> None:
    assert {point.model for role in ("fit", "test") for point in read_points(role)} == set(profiles)


def test_the_stored_constants_are_those_of_the_fit(costs: Costs) -> None:
    points = read_points("fit")
    fitted = fit_scaling(fit_constants(points, costs), read_scaling(), costs, points[0].device)
    stored = asdict(read_constants())
    del stored["band"]
    assert {name: asdict(fitted)[name] for name in stored} == pytest.approx(stored, rel=0.02, abs=0.01)


def test_a_point_that_the_fit_has_not_seen_is_predicted_within_8_percent_on_average(costs: Costs) -> None:
    assert mean_error(leave_one_out(read_points("fit"), costs)) <= 0.08


def test_other_devices_are_predicted_within_15_percent_on_average(costs: Costs) -> None:
    assert mean_error(check_points(read_points("test"), costs, read_constants())) <= 0.15


def test_the_error_band_holds_nine_points_of_ten(costs: Costs) -> None:
    checks = [*leave_one_out(read_points("fit"), costs), *check_points(read_points("test"), costs, read_constants())]
    inside = [abs(each.error) <= read_constants().band for each in checks]
    assert sum(inside) >= 0.9 * len(inside)


def test_published_thread_scaling_lies_in_the_interval(profiles: dict[str, Profile], costs: Costs) -> None:
    constants, device = read_constants(), read_points("fit")[0].device
    for model, ratios in read_scaling().items():
        one = predicted(costs[model], device, constants)
        low, high = predict_threads_ms(profiles[model], device, constants, 4)
        assert one / high <= min(ratios) * 1.02
        assert one / low >= max(ratios) * 0.98


def test_three_points_are_the_least(costs: Costs) -> None:
    with pytest.raises(ValueError, match="three published points or more, not 2"):
        fit_constants(read_points("fit")[:2], costs)
