"""The record of a latency measurement: one schema for every target, and what is computed from samples.

What a credible report needs (device, runtime and delegate really used, model hash, threads, affinity, governor,
frequency and temperature before and after, percentiles rather than a mean) follows MLPerf Mobile's SingleStream
scenario, https://github.com/mlcommons/mobile_app_open.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

SCHEMA_VERSION = 1

# A p90 this far above the p50 says that something else was using the machine.
NOISY_RATIO = 1.5
# A clock that fell by more than this fraction during the run was throttled.
THROTTLED = 0.1
# Below this many samples, the 99th percentile is the maximum under another name.
P99_SAMPLES = 100

HEADER = (
    "model",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "max ms",
    "speed-up",
    "size",
    "smaller",
    "init ms",
    "memory",
    "operators",
)


@dataclass(frozen=True)
class Model:
    """What was measured. `size_bytes` is the size of the .tflite file, `sha256` its digest."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Execution:
    """What executed it: library, delegate really used, operators which that delegate took and left out."""

    runtime: str
    runtime_version: str
    delegate: str
    delegated_operators: int
    operators: int
    left_out: list[str]
    threads: int


@dataclass(frozen=True)
class Machine:
    """What it ran on. `affinity` lists the processors that the process may use; null where that cannot be read."""

    device: str
    os: str
    processors: int
    affinity: list[int] | None


@dataclass(frozen=True)
class Condition:
    """The state of the machine at a moment: null where it cannot be read."""

    governor: str | None
    frequency_mhz: float | None
    temperature_c: float | None
    load: float | None


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one inference, input and output copies not included."""

    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class Start:
    """The first seconds of the model in a process of its own.

    Attributes:
        init_ms: from the file to an interpreter that is ready.
        first_ms: the first inference.
        baseline_rss_bytes: peak resident memory before the model was opened, libraries included.
        peak_rss_bytes: peak resident memory in all; null (as the baseline) where it cannot be read.
    """

    init_ms: float
    first_ms: float
    baseline_rss_bytes: int | None
    peak_rss_bytes: int | None

    @property
    def model_rss_bytes(self) -> int | None:
        """Memory that the model added."""
        if self.peak_rss_bytes is None or self.baseline_rss_bytes is None:
            return None
        return self.peak_rss_bytes - self.baseline_rss_bytes


@dataclass(frozen=True)
class Record:
    """One model measured on one target.

    Attributes:
        target: how the machine was reached, for example "host".
        predicted: the latencies come from a model of the machine, not from a clock.
        warmup: untimed inferences before the first sample.
        samples: timed inferences.
        seconds: from the first sample to the last, those of interleaved models included.
        interleaved: names of the models that were measured in the same run, in turn.
        validity: one line for each reason to doubt the figures; empty for a sound measurement.
        version: of slimcam.
        commit: of slimcam's git checkout, null where it is not one.
        time_utc: ISO 8601, at the end of the measurement.
    """

    target: str
    predicted: bool
    model: Model
    execution: Execution
    machine: Machine
    before: Condition
    after: Condition
    warmup: int
    samples: int
    seconds: float
    interleaved: list[str]
    latency_ms: Latency
    start: Start
    validity: list[str]
    version: str
    commit: str | None
    time_utc: str
    schema_version: int = SCHEMA_VERSION


def latency(samples_ms: Sequence[float]) -> Latency:
    """Sums up the milliseconds of each sample; percentiles are interpolated linearly.

    Raises:
        ValueError: there are no samples.
    """
    if not len(samples_ms):
        raise ValueError("no latency samples were taken; ask for 1 or more")
    p50, p90, p99 = np.percentile(samples_ms, [50, 90, 99])
    return Latency(
        mean=round(float(np.mean(samples_ms)), 4),
        min=round(float(np.min(samples_ms)), 4),
        p50=round(float(p50), 4),
        p90=round(float(p90), 4),
        p99=round(float(p99), 4),
        max=round(float(np.max(samples_ms)), 4),
    )


def doubts(
    samples: int, latency_ms: Latency, execution: Execution, machine: Machine, before: Condition, after: Condition
) -> list[str]:
    """The reasons to doubt a measurement, one line each."""
    found = []
    if samples < P99_SAMPLES:
        found.append(f"{samples} samples are too few for a p99; take {P99_SAMPLES} or more")
    if latency_ms.p90 > NOISY_RATIO * latency_ms.p50:
        found.append(f"noisy: p90 is {latency_ms.p90 / latency_ms.p50:.1f} times p50; stop what else uses the machine")
    usable = machine.processors if machine.affinity is None else len(machine.affinity)
    if execution.threads > usable:
        found.append(f"{execution.threads} threads on {usable} usable processors")
    if execution.left_out:
        found.append(
            f"{len(execution.left_out)} of {execution.operators} operators ran outside the delegate: "
            + ", ".join(execution.left_out)
        )
    if before.frequency_mhz and after.frequency_mhz and after.frequency_mhz < (1 - THROTTLED) * before.frequency_mhz:
        found.append(f"the clock fell from {before.frequency_mhz:.0f} to {after.frequency_mhz:.0f} MHz")
    return found


def table(records: Sequence[Record]) -> str:
    """The records as a text table; ratios are of the p50 and the size of the first record to each one's."""
    rows = [HEADER, *(_cells(record, records[0]) for record in records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = []
    for name, *figures in rows:
        cells = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *cells]))
    notes = [f"{record.model.name}: {note}" for record in records for note in record.validity]
    return "\n".join(lines + notes)


def _cells(record: Record, first: Record) -> tuple[str, ...]:
    times = record.latency_ms
    memory = record.start.model_rss_bytes
    return (
        record.model.name + (" (predicted)" if record.predicted else ""),
        *(
            f"{figure:.2f}" if figure >= 1 else f"{figure:.3f}"
            for figure in (times.p50, times.p90, times.p99, times.max)
        ),
        f"{first.latency_ms.p50 / times.p50:.2f}x",
        _size(record.model.size_bytes),
        f"{first.model.size_bytes / record.model.size_bytes:.2f}x",
        f"{record.start.init_ms:.1f}",
        "-" if memory is None else _size(memory),
        f"{record.execution.delegated_operators}/{record.execution.operators} {record.execution.delegate}",
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def summary(record: Record) -> str:
    """Where and how a record was measured, in one line."""
    execution = record.execution
    return (
        f"{record.target}: {record.machine.device}, {execution.threads} "
        f"{'thread' if execution.threads == 1 else 'threads'}, {execution.runtime} {execution.runtime_version}, "
        f"{record.samples} samples each in {record.seconds:.1f} s"
    )


def write_records(records: Sequence[Record], path: Path) -> None:
    """Writes the records as a JSON list, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps([asdict(record) for record in records], indent=2) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_records(path: Path) -> list[Record]:
    """Reads what `write_records` wrote.

    Raises:
        ValueError: the file holds no benchmark records of this schema version.
    """
    try:
        return [_record(entry) for entry in json.loads(path.read_bytes())]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: not benchmark records of schema version {SCHEMA_VERSION}; run the benchmark again"
        ) from error


def _record(entry: dict[str, Any]) -> Record:
    if entry["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {entry['schema_version']}")
    parts: dict[str, type[Any]] = {
        "model": Model,
        "execution": Execution,
        "machine": Machine,
        "before": Condition,
        "after": Condition,
        "latency_ms": Latency,
        "start": Start,
    }
    values = {field.name: entry[field.name] for field in fields(Record)}
    return Record(**{name: parts[name](**value) if name in parts else value for name, value in values.items()})
