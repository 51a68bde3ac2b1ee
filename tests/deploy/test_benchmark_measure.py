from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.benchmark.measure import (
    Cluster,
    Condition,
    Estimate,
    Execution,
    Latency,
    Machine,
    Model,
    Operator,
    PredictedOperator,
    Prediction,
    Record,
    Start,
    ThreadsEstimate,
    doubts,
    first_of_each,
    latency,
    parse_records,
    read_records,
    slowdown,
    write_records,
)

CALM = Condition(governor="performance", frequency_mhz=2000.0, temperature_c=50.0, load=0.1)
EXECUTION = Execution("ai-edge-litert", "2.3.0", "XNNPACK", 6, 6, [], 1, [0])
MACHINE = Machine("Board", "Linux", 4, [0, 1], "BCM2837", [Cluster("Cortex-A53", [0, 1, 2, 3], 1200.0)])
TIMES = Latency(mean=2.0, min=1.8, p50=2.0, p90=2.2, p99=2.5, max=3.0)
RECORD = Record(
    target="host",
    model=Model("dense", "ab" * 32, 8_000_000),
    execution=EXECUTION,
    machine=MACHINE,
    before=CALM,
    after=CALM,
    warmup=1,
    samples=200,
    seconds=1.0,
    interleaved=["dense", "slim"],
    latency_ms=TIMES,
    start=Start(5.0, 3.0, 30_000_000, 20_000_000),
    validity=[],
    version="0.1.0",
    commit=None,
    time_utc="2030-01-01T00:00:00+00:00",
    profile=[Operator("Delegate/0", "Convolution", 1.5, 1)],
)
PREDICTION = Prediction(
    ms=Estimate(270.0, 300.0, 330.0),
    threads=[ThreadsEstimate(4, 90.0, 120.0)],
    roof_ms=200.0,
    model="cortex-a53-inorder 1",
    constants={"l2_miss_ns": 22.4},
    clock_mhz=2000.0,
    instructions=10**9,
    l1_misses=10**6,
    l2_misses=10**5,
    operators=[PredictedOperator(0, "conv1", "CONV_2D", ["f32_gemm_6x8"], 300.0, 200.0, 10**9, 10**6, 10**5)],
)
PREDICTED = replace(RECORD, target="snapdragon_625", latency_ms=None, start=None, profile=None, prediction=PREDICTION)


def test_percentiles_of_known_samples() -> None:
    found = latency([float(i) for i in range(101)])
    assert (found.min, found.p50, found.p90, found.p99, found.max, found.mean) == (0, 50, 90, 99, 100, 50)


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="no latency samples"):
        latency([])


def test_a_sound_measurement_raises_no_doubts() -> None:
    assert doubts(200, TIMES, EXECUTION, MACHINE, CALM, CALM) == []


def test_each_doubt_has_its_line() -> None:
    throttled = replace(CALM, frequency_mhz=1000.0)
    noisy = replace(TIMES, p90=4.0)
    split = replace(EXECUTION, threads=4, delegated_operators=5, left_out=["3 AVERAGE_POOL_2D"])
    lines = doubts(50, noisy, split, MACHINE, CALM, throttled)
    for line, word in zip(lines, ["50 samples", "noisy", "4 threads on 1", "AVERAGE_POOL_2D", "1000 MHz"], strict=True):
        assert word in line


def test_more_threads_than_processors_are_doubtful_without_pinning_too() -> None:
    (line,) = doubts(200, TIMES, replace(EXECUTION, threads=4, affinity=None), MACHINE, CALM, CALM)
    assert line == "4 threads on 2 usable processors"


def test_samples_that_get_slower_show_throttling_where_no_clock_can_be_read() -> None:
    steady, rising = [2.0] * 400, [2.0] * 200 + [2.5] * 200
    assert slowdown(steady) == 0.0
    assert slowdown(rising) == pytest.approx(0.25)
    assert slowdown([1.0, 9.0]) == 0.0
    unknown = replace(CALM, frequency_mhz=None)
    (line,) = doubts(400, TIMES, EXECUTION, MACHINE, unknown, unknown, slowdown(rising))
    assert line == "throttled or disturbed: the last quarter of the samples is 25 % slower"


def test_a_tool_without_percentiles_is_not_doubted_for_them() -> None:
    mean_only = replace(TIMES, p50=None, p90=None, p99=None)
    assert doubts(50, mean_only, replace(EXECUTION, delegated_operators=None), MACHINE, CALM, CALM) == []
    assert replace(RECORD, latency_ms=mean_only).typical_ms == 2.0


def test_a_record_is_measured_or_predicted_and_never_both() -> None:
    assert (RECORD.predicted, RECORD.typical_ms) == (False, 2.0)
    assert (PREDICTED.predicted, PREDICTED.typical_ms) == (True, 300.0)
    for latency_ms, prediction in ((None, None), (TIMES, PREDICTION)):
        with pytest.raises(ValueError, match="either a measured or a predicted latency"):
            replace(RECORD, latency_ms=latency_ms, prediction=prediction)


def test_records_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "benchmark.json"
    records = [RECORD, PREDICTED, replace(RECORD, latency_ms=replace(TIMES, p50=None), profile=None)]
    write_records(records, path)
    assert read_records(path) == records
    assert [file.name for file in path.parent.iterdir()] == ["benchmark.json"]


@pytest.mark.parametrize("text", ["", "[{}]", "3", '[{"schema_version": 1}]', "[3]", "{}"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "benchmark.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"not benchmark records of schema version 3 \(.*\); run the benchmark again"):
        read_records(path)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda entry: entry["latency_ms"].pop("p90"), "record 0.latency_ms has no 'p90'"),
        (lambda entry: entry.pop("machine"), "record 0 has no 'machine'"),
        (lambda entry: entry.update(mean=3), "record 0 has an unknown field 'mean'"),
        (lambda entry: entry.update(samples=True), "record 0.samples is bool, not int"),
        (lambda entry: entry["latency_ms"].update(p50="2"), "record 0.latency_ms.p50 is str, not float"),
        (lambda entry: entry["model"].update(name=None), "record 0.model.name is NoneType, not str"),
        (lambda entry: entry.update(validity="noisy"), "record 0.validity is str, not list"),
        (lambda entry: entry["interleaved"].append(1), r"record 0.interleaved\[2\] is int, not str"),
        (lambda entry: entry.update(latency_ms=None), "either a measured or a predicted latency"),
    ],
)
def test_every_field_is_checked(spoil: Callable[[dict[str, Any]], object], line: str) -> None:
    entry = asdict(RECORD)
    spoil(entry)
    with pytest.raises(ValueError, match=line):
        parse_records(json.dumps([entry]))


def test_whole_numbers_stand_for_floats() -> None:
    entry = asdict(RECORD)
    entry["latency_ms"]["p50"] = 2
    (record,) = parse_records(json.dumps([entry]))
    assert record == RECORD
    assert type(record.typical_ms) is float


def test_the_first_record_of_each_model_is_the_one_that_counts() -> None:
    slim = replace(RECORD, model=replace(RECORD.model, name="slim"))
    four = replace(RECORD, execution=replace(EXECUTION, threads=4))
    assert first_of_each([RECORD, slim, four]) == {"dense": RECORD, "slim": slim}
