"""The benchmark stage: latency of the dense, the pruned and the quantized model on the target that is configured."""

from __future__ import annotations

from deploy.benchmark.targets import measure_on_target
from deploy.common.console import show
from deploy.latency.record import write_records
from deploy.latency.table import record_summary, record_table
from pipeline.stages.artifacts import BENCHMARK, VARIANTS
from training.tasks.job import Job


def run(job: Job) -> None:
    """Writes `benchmark.json`: a record for each bundle of the convert stage, the dense one first."""
    records = measure_on_target({name: job.inputs["convert"] / name for name in VARIANTS}, job.config.benchmark)
    show(record_summary(records[0]))
    show(record_table(records))
    write_records(records, job.out / BENCHMARK)
