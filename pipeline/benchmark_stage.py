"""The benchmark stage: latency of the dense, the pruned and the quantised model on this machine, in turn."""

from __future__ import annotations

from compression.recipe import BENCHMARK, VARIANTS
from deploy.benchmark.host import measure
from deploy.benchmark.measure import table, write_records
from training.job import Job


def run(job: Job) -> None:
    """Writes `benchmark.json`: one record for each bundle of the convert stage, the dense one first."""
    records = measure({name: job.inputs["convert"] / name for name in VARIANTS}, job.config.benchmark)
    print(table(records), flush=True)
    write_records(records, job.out / BENCHMARK)
