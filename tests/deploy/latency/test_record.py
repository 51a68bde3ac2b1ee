from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from slimcam.deploy.latency.record import (
    Cluster,
    Condition,
    Estimate,
    Execution,
    Latency,
    Machine,
    MeasuredModel,
    Operator,
    PredictedOperator,
    Prediction,
    Record,
    Start,
    ThreadsEstimate,
    first_of_each,
    parse_records,
    read_records,
    write_records,
)

CALM = Condition(governor="performance", frequency_mhz=2000.0, temperature_c=50.0, load=0.1)
EXECUTION = Execution("ai-edge-litert", "2.3.0", "XNNPACK", 6, 6, [], 1, [0])
MACHINE = Machine("Board", "Linux", 4, [0, 1], "BCM2837", [Cluster("Cortex-A53", [0, 1, 2, 3], 1200.0)])
TIMES = Latency(mean=2.0, min=1.8, p50=2.0, p90=2.2, p99=2.5, max=3.0)
RECORD = Record(
    target="host",
    model=MeasuredModel("dense", "ab" * 32, 8_000_000),
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


def test_a_record_is_measured_or_predicted_and_never_both() -> None:
    assert (RECORD.predicted, RECORD.typical_ms) == (False, 2.0)
    assert (PREDICTED.predicted, PREDICTED.typical_ms) == (True, 300.0)
    for latency_ms, prediction in ((None, None), (TIMES, PREDICTION)):
        with pytest.raises(ValueError, match="either a measured or a predicted latency"):
            replace(RECORD, latency_ms=latency_ms, prediction=prediction)


def test_a_record_without_a_median_is_compared_by_its_mean() -> None:
    assert replace(RECORD, latency_ms=replace(TIMES, p50=None)).typical_ms == 2.0


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
