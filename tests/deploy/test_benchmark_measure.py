from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.benchmark.measure import (
    Condition,
    Execution,
    Latency,
    Machine,
    Model,
    Record,
    Start,
    doubts,
    latency,
    read_records,
    summary,
    table,
    write_records,
)

CALM = Condition(governor="performance", frequency_mhz=2000.0, temperature_c=50.0, load=0.1)
EXECUTION = Execution("ai-edge-litert", "2.3.0", "XNNPACK", 6, 6, [], 1)
MACHINE = Machine("Board", "Linux", 4, [0, 1])
TIMES = Latency(mean=2.0, min=1.8, p50=2.0, p90=2.2, p99=2.5, max=3.0)
RECORD = Record(
    target="host",
    predicted=False,
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
    start=Start(5.0, 3.0, 10_000_000, 30_000_000),
    validity=[],
    version="0.1.0",
    commit=None,
    time_utc="2030-01-01T00:00:00+00:00",
)


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
    for line, word in zip(lines, ["50 samples", "noisy", "4 threads on 2", "AVERAGE_POOL_2D", "1000 MHz"], strict=True):
        assert word in line


def test_records_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "benchmark.json"
    write_records([RECORD], path)
    assert read_records(path) == [RECORD]
    assert [file.name for file in path.parent.iterdir()] == ["benchmark.json"]


@pytest.mark.parametrize("text", ["", "[{}]", "3", '[{"schema_version": 99}]'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "benchmark.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not benchmark records of schema version 1"):
        read_records(path)


def test_a_record_with_a_missing_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    write_records([RECORD], path)
    (entry,) = json.loads(path.read_text())
    del entry["latency_ms"]["p90"]
    path.write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match="not benchmark records"):
        read_records(path)


def test_the_table_compares_with_the_first_record() -> None:
    slim = replace(
        RECORD,
        predicted=True,
        model=Model("slim", "cd" * 32, 2_000_000),
        latency_ms=replace(TIMES, p50=0.5),
        start=Start(5.0, 3.0, None, None),
        validity=["noisy"],
    )
    dense = ["dense", "2.00", "2.20", "2.50", "3.00", "1.00x", "8.00 MB", "1.00x", "5.0", "20.00 MB", "6/6 XNNPACK"]
    predicted = [
        "slim (predicted)",
        "0.500",
        "2.20",
        "2.50",
        "3.00",
        "4.00x",
        "2.00 MB",
        "4.00x",
        "5.0",
        "-",
        "6/6 XNNPACK",
    ]
    head, first, second, note = table([RECORD, slim]).splitlines()
    assert "speed-up" in head
    assert re.split("  +", first) == dense
    assert re.split("  +", second) == predicted
    assert note == "slim: noisy"


def test_the_summary_says_where_and_with_what() -> None:
    assert summary(RECORD) == "host: Board, 1 thread, ai-edge-litert 2.3.0, 200 samples each in 1.0 s"
