"""A run's table: the cost, size, accuracy and latency of each model, beside the published case study."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimcam.compression.export.zeros import zero_share
from slimcam.deploy.common.files import write_text
from slimcam.deploy.latency.record import Record
from slimcam.deploy.latency.table import threads
from slimcam.pipeline.report import wording

TABLE = "results.json"
PUBLISHED_MACHINE = "Snapdragon 625"


@dataclass(frozen=True)
class Row:
    """One model. A ratio is the dense model's figure over this model's; `None` is unknown.

    Attributes:
        accuracy: what the task measures, as a share.
        change, low, high: of the accuracy against the dense model, and its 95 % interval, as shares.
        loss_below: the share that a publication says the accuracy fell by less than.
        size_mb: of the `.tflite` file, in millions of bytes.
        gzip_mb: of the same, compressed by gzip as for a download.
        zeros: the share of its kernels' weights that are zero.
        p50_ms, p90_ms: of one inference, on the machine that the row's table names; a target that tells no median has
            its mean, or its predicted latency, in its place.
    """

    name: str
    size_mb: float
    p50_ms: float
    size_ratio: float
    latency_ratio: float
    p90_ms: float | None = None
    parameters: int | None = None
    macs: int | None = None
    parameters_ratio: float | None = None
    macs_ratio: float | None = None
    accuracy: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    loss_below: float | None = None
    gzip_mb: float | None = None
    zeros: float | None = None


PUBLISHED = (
    Row("dense", size_mb=98.0, p50_ms=300.0, size_ratio=1.0, latency_ratio=1.0),
    Row("compressed", size_mb=9.2, p50_ms=86.0, size_ratio=98 / 9.2, latency_ratio=300 / 86, loss_below=0.02),
)
"""The case study: a ResNet-50 face recognizer, 70 % of its channels pruned, int8. Which percentile its milliseconds
are is not stated."""


@dataclass(frozen=True)
class Table:
    """The rows of a run, the dense model's first, and the verdict of the gates.

    Attributes:
        machine: what the latencies were measured on.
        predicted: the latencies come from a model of that machine.
        measure: what the accuracy is, in a word or two.
        gates: of the evaluate stage, each as `slimcam.pipeline.stages.gates.Gate`.
        remarks: What to know beside them.
    """

    name: str
    machine: str
    threads: int
    predicted: bool
    measure: str
    rows: tuple[Row, ...]
    gates: tuple[dict[str, Any], ...]
    published: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[dict[str, Any], ...]:
        return tuple(gate for gate in self.gates if not gate["passed"])

    @property
    def verdict(self) -> str:
        """`all gates passed (5 of 5)`, `2 of 5 gates failed: size_mb, fidelity` or `no gates were set`."""
        if not self.gates:
            return "no gates were set"
        if self.failed:
            names = ", ".join(gate["name"] for gate in self.failed)
            return f"{len(self.failed)} of {len(self.gates)} gates failed: {names}"
        return f"all gates passed ({len(self.gates)} of {len(self.gates)})"


def build(
    name: str,
    backbone: str,
    costs: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    records: Sequence[Record],
    files: Mapping[str, bytes] | None = None,
) -> Table:
    """Joins what the stages found.

    Args:
        backbone: of the model; the published rows are of a ResNet-50.
        costs: of the prune stage's `cost.json`.
        evaluation: of the evaluate stage's `evaluation.json`.
        records: of the benchmark stage, the dense model's first.
        files: contents of the `.tflite` files, by model.
    """
    first = records[0]
    return Table(
        name=name,
        machine=first.machine.device,
        threads=first.execution.threads,
        predicted=any(record.predicted for record in records),
        measure=evaluation["measure"],
        rows=tuple(_row(record, first, costs, evaluation, (files or {}).get(record.model.name)) for record in records),
        gates=tuple(evaluation["gates"]),
        published=PUBLISHED if (evaluation["task"], backbone) == ("recognition", "ResNet50") else (),
        remarks=tuple(evaluation["remarks"]),
    )


def save(table: Table, path: Path) -> None:
    """Writes the table as JSON."""
    write_text(path, json.dumps({**asdict(table), "verdict": table.verdict}, indent=2) + "\n")


def load(path: Path) -> Table:
    """Reads what `save` wrote."""
    values = json.loads(path.read_text())
    del values["verdict"]
    rows = {name: tuple(Row(**row) for row in values[name]) for name in ("rows", "published")}
    return Table(**{**values, **rows, "gates": tuple(values["gates"]), "remarks": tuple(values["remarks"])})


def summary(results: Mapping[str, Path]) -> str:
    """Five lines for the console: what became of the dense model, and the verdict.

    Args:
        results: the result folder of each stage, that of `report` among them.
    """
    table = load(results["report"] / TABLE)
    dense, small = table.rows[0], table.rows[-1]
    kind = "predicted" if table.predicted else "measured"
    lines = {
        "model": f"{wording.count(dense.parameters)} -> {wording.count(small.parameters)} parameters, "
        f"{wording.count(dense.macs)} -> {wording.count(small.macs)} MACs",
        table.measure.lower(): f"{wording.percent(dense.accuracy)} -> {wording.percent(small.accuracy)}, "
        f"change {change(small)} points",
        "size": f"{wording.megabytes(dense.size_mb)} -> {wording.megabytes(small.size_mb)} MB, "
        f"{wording.times(small.size_ratio)} smaller",
        "latency": f"{wording.milliseconds(dense.p50_ms)} -> {wording.milliseconds(small.p50_ms)} ms, "
        f"{wording.times(small.latency_ratio)} as fast ({kind}: {table.machine}, {threads(table.threads)})",
        "gates": table.verdict,
    }
    return "\n".join([*(f"{title:<9} {line}" for title, line in lines.items()), *table.remarks])


def change(row: Row) -> str:
    """`-0.27 (-0.62 to +0.07)`, in percentage points."""
    if row.loss_below is not None:
        return f"less than {100 * row.loss_below:g} % lost"
    if row.change is None or row.low is None or row.high is None:
        return wording.UNKNOWN
    return wording.interval(row.change, row.low, row.high)


def _row(
    record: Record, first: Record, costs: Mapping[str, Any], evaluation: Mapping[str, Any], content: bytes | None
) -> Row:
    name = record.model.name
    # Quantizing changes neither the parameters nor the operations, only their type.
    cost, dense = costs["dense" if name == "dense" else "pruned"], costs["dense"]
    interval = evaluation["changes"].get(name, {})
    return Row(
        name=name,
        size_mb=record.model.size_bytes / 1e6,
        p50_ms=record.typical_ms,
        p90_ms=None if record.latency_ms is None else record.latency_ms.p90,
        size_ratio=first.model.size_bytes / record.model.size_bytes,
        latency_ratio=first.typical_ms / record.typical_ms,
        parameters=cost["parameters"],
        macs=cost["macs"],
        parameters_ratio=dense["parameters"] / cost["parameters"],
        macs_ratio=dense["macs"] / cost["macs"],
        accuracy=evaluation["accuracies"][name],
        change=interval.get("difference"),
        low=interval.get("low"),
        high=interval.get("high"),
        gzip_mb=None if content is None else len(gzip.compress(content)) / 1e6,
        zeros=None if content is None else zero_share(content),
    )
