from __future__ import annotations

import re
from dataclasses import replace

from slimcam.deploy.latency.record import (
    Condition,
    Estimate,
    Execution,
    Latency,
    Machine,
    MeasuredModel,
    Operator,
    Prediction,
    Record,
    Start,
    ThreadsEstimate,
)
from slimcam.deploy.latency.table import record_summary, record_table

CALM = Condition(None, None, None, None)
DENSE = Record(
    target="host",
    model=MeasuredModel("dense", "ab" * 32, 8_000_000),
    execution=Execution("ai-edge-litert", "2.3.0", "XNNPACK", 6, 6, [], 1),
    machine=Machine("Board", "Linux", 4, None),
    before=CALM,
    after=CALM,
    warmup=1,
    samples=200,
    seconds=1.0,
    interleaved=["dense", "slim"],
    latency_ms=Latency(mean=2.0, min=1.8, p50=2.0, p90=2.2, p99=2.5, max=3.0),
    start=Start(5.0, 3.0, 30_000_000, 20_000_000),
    validity=[],
    version="0.1.0",
    commit=None,
    time_utc="2030-01-01T00:00:00+00:00",
)
SLIM = replace(
    DENSE,
    model=MeasuredModel("slim", "cd" * 32, 2_000_000),
    latency_ms=Latency(mean=0.6, min=0.4, p50=0.5, p90=2.2, p99=2.5, max=3.0),
    start=Start(5.0, 3.0, None, None),
    validity=["noisy"],
)
PREDICTION = Prediction(
    ms=Estimate(270.0, 300.0, 330.0),
    threads=[ThreadsEstimate(4, 90.0, 120.0)],
    roof_ms=200.0,
    model="cortex-a53-inorder 1",
    constants={},
    clock_mhz=2016.0,
    instructions=1,
    l1_misses=1,
    l2_misses=1,
)


def cells(line: str) -> list[str]:
    return re.split("  +", line.strip())


def with_threads(record: Record, threads: int, p50: float) -> Record:
    assert record.latency_ms is not None
    return replace(
        record,
        execution=replace(record.execution, threads=threads),
        latency_ms=replace(record.latency_ms, p50=p50),
    )


def test_the_table_compares_with_the_first_model() -> None:
    head, dense, slim, note = record_table([DENSE, SLIM]).splitlines()
    ratios = ["1.00x", "8.00 MB", "1.00x"]
    assert "speed-up" in head
    assert cells(dense) == ["dense", "1", "2.00", "2.20", "2.50", "3.00", *ratios, "5.0", "20.00 MB", "6/6 XNNPACK"]
    ratios = ["4.00x", "2.00 MB", "4.00x"]
    assert cells(slim) == ["slim", "1", "0.500", "2.20", "2.50", "3.00", *ratios, "5.0", "-", "6/6 XNNPACK"]
    assert note == "slim: noisy"


def test_models_are_compared_at_the_same_number_of_threads() -> None:
    four = [with_threads(DENSE, 4, 1.0), with_threads(SLIM, 4, 0.4)]
    lines = record_table([DENSE, SLIM, *four]).splitlines()
    assert [cells(line)[6] for line in lines[1:5]] == ["1.00x", "4.00x", "1.00x", "2.50x"]
    assert lines[5:] == ["slim, 1 thread: noisy", "slim, 4 threads: noisy"]


def test_what_a_tool_does_not_tell_is_not_invented() -> None:
    bare = replace(
        DENSE,
        latency_ms=Latency(mean=2.0, min=1.8, p50=None, p90=None, p99=None, max=3.0),
        execution=replace(DENSE.execution, delegated_operators=None),
    )
    found = cells(record_table([bare]).splitlines()[1])
    assert found[2:6] == ["~2.00", "-", "-", "3.00"]
    assert found[-1] == "?/6 XNNPACK"


def test_predictions_stand_apart_and_are_called_so() -> None:
    dense = replace(DENSE, latency_ms=None, start=None, prediction=PREDICTION)
    slim = replace(dense, model=SLIM.model, prediction=replace(PREDICTION, ms=Estimate(90.0, 100.0, 110.0), threads=[]))
    head, first, second = record_table([dense, slim]).splitlines()
    assert cells(head)[:6] == ["predicted", "ms, 1 thread", "error band", "ms, 4", "limit ms", "speed-up"]
    assert cells(first)[:6] == ["dense", "300.00", "270.00 to 330.00", "90.00 to 120.00", "200.00", "1.00x"]
    assert cells(second)[:6] == ["slim", "100.00", "90.00 to 110.00", "-", "200.00", "3.00x"]
    both = record_table([DENSE, dense])
    assert [line.split()[0] for line in both.splitlines()] == ["model", "dense", "predicted", "dense"]
    assert record_summary(dense) == (
        "host: Board, ai-edge-litert 2.3.0, predicted by cortex-a53-inorder 1 at 2016 MHz, not measured"
    )


def test_a_profile_shows_the_slowest_operators_and_the_rest_in_one_line() -> None:
    operators = [Operator(f"op{i}", "CONV_2D", float(i), 1) for i in range(1, 21)]
    lines = record_table([replace(DENSE, profile=operators)]).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("dense, 1 thread: operator"))
    assert cells(lines[begin + 1]) == ["op20", "CONV_2D", "20.00", "9.5 %"]
    assert cells(lines[begin + 13]) == ["8 others", "36.00", "17.1 %"]


def test_the_summary_says_where_and_with_what() -> None:
    assert record_summary(DENSE) == "host: Board, ai-edge-litert 2.3.0, 200 samples each in 1.0 s"
    machine = replace(DENSE.machine, soc="BCM2837")
    assert record_summary(replace(DENSE, machine=machine)).startswith("host: Board (BCM2837), ")
