"""Records as text: one table of what was measured, one of what was predicted, and the validity warnings of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slimcam.deploy.common.text_table import grid
from slimcam.deploy.latency.record import Estimate, Operator, Prediction, Record, ThreadsEstimate

UNKNOWN = "-"
# Operators that are shown of a profile, the slowest first.
PROFILE_ROWS = 12

MEASURED = (
    "model",
    "threads",
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


def record_table(records: Sequence[Record]) -> str:
    """The records as text.

    Ratios are those of the first model to each model, with the same number of threads. A median that the target's
    tool does not tell is replaced by the mean, marked `~`.
    """
    measured = [record for record in records if not record.predicted]
    predicted = [record for record in records if record.predicted]
    blocks = []
    if measured:
        blocks.append(grid([MEASURED, *(_measured(record, _reference(record, measured)) for record in measured)]))
    if predicted:
        counts = sorted({estimate.threads for record in predicted for estimate in _prediction(record).threads})
        head = (
            "predicted",
            "ms, 1 thread",
            "error band",
            *(f"ms, {count}" for count in counts),
            "limit ms",
            "speed-up",
            "size",
            "smaller",
            "operators",
        )
        blocks.append(grid([head, *(_predicted(record, predicted[0], counts) for record in predicted)]))
    blocks.extend(_profile(record) for record in records if record.profile)
    notes = [f"{_name(record, records)}: {note}" for record in records for note in record.validity]
    return "\n".join([*blocks, *dict.fromkeys(notes)])


def record_summary(record: Record) -> str:
    """Where and how a record came about, in one line."""
    execution, machine = record.execution, record.machine
    chip = f" ({machine.soc})" if machine.soc and machine.soc not in machine.device else ""
    parts = [f"{record.target}: {machine.device}{chip}", f"{execution.runtime} {execution.runtime_version}"]
    if record.prediction is not None:
        parts.append(f"predicted by {record.prediction.model} at {record.prediction.clock_mhz:.0f} MHz, not measured")
    elif record.samples:
        parts.append(f"{record.samples} samples each in {record.seconds:.1f} s")
    return ", ".join(parts)


def _reference(record: Record, measured: Sequence[Record]) -> Record:
    """The first model's record with the same number of threads; the first of all where it has none."""
    first = measured[0]
    same = (
        other
        for other in measured
        if other.model == first.model and other.execution.threads == record.execution.threads
    )
    return next(same, first)


def _measured(record: Record, reference: Record) -> tuple[str, ...]:
    times, start = record.latency_ms, record.start
    assert times is not None
    median = f"~{_ms(times.mean)}" if times.p50 is None else _ms(times.p50)
    return (
        record.model.name,
        str(record.execution.threads),
        median,
        _ms(times.p90),
        _ms(times.p99),
        _ms(times.max),
        *_ratios(record, reference),
        UNKNOWN if start is None else f"{start.init_ms:.1f}",
        UNKNOWN if start is None or start.model_rss_bytes is None else _size(start.model_rss_bytes),
        _operators(record),
    )


def _predicted(record: Record, reference: Record, counts: Sequence[int]) -> tuple[str, ...]:
    prediction = _prediction(record)
    intervals = {estimate.threads: estimate for estimate in prediction.threads}
    return (
        record.model.name,
        _ms(prediction.ms.value),
        _interval(prediction.ms),
        *(_interval(intervals[count]) if count in intervals else UNKNOWN for count in counts),
        _ms(prediction.roof_ms),
        *_ratios(record, reference),
        _operators(record),
    )


def _prediction(record: Record) -> Prediction:
    assert record.prediction is not None
    return record.prediction


def _ratios(record: Record, reference: Record) -> tuple[str, str, str]:
    """Speed-up, size and how many times smaller."""
    return (
        f"{reference.typical_ms / record.typical_ms:.2f}x",
        _size(record.model.size_bytes),
        f"{reference.model.size_bytes / record.model.size_bytes:.2f}x",
    )


def _operators(record: Record) -> str:
    execution = record.execution
    taken: Any = "?" if execution.delegated_operators is None else execution.delegated_operators
    return f"{taken}/{execution.operators} {execution.delegate}"


def _profile(record: Record) -> str:
    """The slowest operators of a record."""
    operators: list[Operator] = sorted(record.profile or [], key=lambda operator: -operator.ms)
    total = sum(operator.ms for operator in operators)
    head = (f"{record.model.name}, {threads(record.execution.threads)}: operator", "kind", "ms", "share")
    rows = [
        (operator.name, operator.kind, _ms(operator.ms), f"{100 * operator.ms / total:.1f} %" if total else UNKNOWN)
        for operator in operators[:PROFILE_ROWS]
    ]
    rest = operators[PROFILE_ROWS:]
    if rest:
        left = sum(operator.ms for operator in rest)
        rows.append((f"{len(rest)} others", "", _ms(left), f"{100 * left / total:.1f} %" if total else UNKNOWN))
    return "\n" + grid([head, *rows]) + "\n"


def _name(record: Record, records: Sequence[Record]) -> str:
    """The model's name, with the number of threads where the records differ in it."""
    if len({other.execution.threads for other in records}) == 1:
        return record.model.name
    return f"{record.model.name}, {threads(record.execution.threads)}"


def threads(count: int) -> str:
    """`1 thread`, `4 threads`."""
    return f"{count} thread" if count == 1 else f"{count} threads"


def _interval(estimate: Estimate | ThreadsEstimate) -> str:
    return f"{_ms(estimate.low)} to {_ms(estimate.high)}"


def _ms(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"
