"""The benchmark stage: latency of the dense, the pruned and the quantized model on the target that is configured."""

from __future__ import annotations

from slimcam.deploy.benchmark.targets import measure_on_target
from slimcam.deploy.common.console import show
from slimcam.deploy.latency.record import write_records
from slimcam.deploy.latency.table import record_summary, record_table
from slimcam.pipeline.stages.artifacts import BENCHMARK, VARIANTS
from slimcam.training.tasks.job import Job


def run(job: Job) -> None:
    """Writes `benchmark.json`: a record for each bundle of the convert stage, the dense one first."""
    records = measure_on_target({name: job.inputs["convert"] / name for name in VARIANTS}, job.config.benchmark)
    show(record_summary(records[0]))
    show(record_table(records))
    write_records(records, job.out / BENCHMARK)
