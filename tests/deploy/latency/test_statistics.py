from __future__ import annotations

from dataclasses import replace

import pytest

from slimcam.deploy.latency.record import (
    Cluster,
    Condition,
    Execution,
    Latency,
    Machine,
)
from slimcam.deploy.latency.statistics import latency, slowdown, validity_warnings

CALM = Condition(governor="performance", frequency_mhz=2000.0, temperature_c=50.0, load=0.1)
EXECUTION = Execution("ai-edge-litert", "2.3.0", "XNNPACK", 6, 6, [], 1, [0])
MACHINE = Machine("Board", "Linux", 4, [0, 1], "BCM2837", [Cluster("Cortex-A53", [0, 1, 2, 3], 1200.0)])
TIMES = Latency(mean=2.0, min=1.8, p50=2.0, p90=2.2, p99=2.5, max=3.0)


def test_percentiles_of_known_samples() -> None:
    found = latency([float(i) for i in range(101)])
    assert (found.min, found.p50, found.p90, found.p99, found.max, found.mean) == (0, 50, 90, 99, 100, 50)


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="no latency samples"):
        latency([])


def test_a_sound_measurement_raises_no_doubts() -> None:
    assert validity_warnings(200, TIMES, EXECUTION, MACHINE, CALM, CALM) == []


def test_each_doubt_has_its_line() -> None:
    throttled = replace(CALM, frequency_mhz=1000.0)
    noisy = replace(TIMES, p90=4.0)
    split = replace(EXECUTION, threads=4, delegated_operators=5, left_out=["3 AVERAGE_POOL_2D"])
    lines = validity_warnings(50, noisy, split, MACHINE, CALM, throttled)
    for line, word in zip(lines, ["50 samples", "noisy", "4 threads on 1", "AVERAGE_POOL_2D", "1000 MHz"], strict=True):
        assert word in line


def test_more_threads_than_processors_are_doubtful_without_pinning_too() -> None:
    (line,) = validity_warnings(200, TIMES, replace(EXECUTION, threads=4, affinity=None), MACHINE, CALM, CALM)
    assert line == "4 threads on 2 usable processors"


def test_samples_that_get_slower_show_throttling_where_no_clock_can_be_read() -> None:
    steady, rising = [2.0] * 400, [2.0] * 200 + [2.5] * 200
    assert slowdown(steady) == 0.0
    assert slowdown(rising) == pytest.approx(0.25)
    assert slowdown([1.0, 9.0]) == 0.0
    unknown = replace(CALM, frequency_mhz=None)
    (line,) = validity_warnings(400, TIMES, EXECUTION, MACHINE, unknown, unknown, slowdown(rising))
    assert line == "throttled or disturbed: the last quarter of the samples is 25 % slower"


def test_a_tool_without_percentiles_is_not_doubted_for_them() -> None:
    mean_only = replace(TIMES, p50=None, p90=None, p99=None)
    assert validity_warnings(50, mean_only, replace(EXECUTION, delegated_operators=None), MACHINE, CALM, CALM) == []
