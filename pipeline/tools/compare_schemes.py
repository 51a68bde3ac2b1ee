"""Schemes of quantization side by side: accuracy, size, latency and delegation of each, as a table.

    python -m slimcam.pipeline.tools.compare_schemes --json schemes.json experiment=lfw data.root=FOLDER

takes the options of `slimcam`, runs each scheme as far as its file, evaluates all files on the same data and measures
them in turn with the dense and the pruned float model. What is done already costs nothing. An option of one scheme
alone goes with its name: `--schemes ptq_int8,case_study+quantize.fit.learning_rate=1.0e-4`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose, initialize_config_module
from hydra.errors import HydraException

from slimcam.deploy.benchmark.targets import measure_on_target
from slimcam.deploy.common.config_errors import explain
from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.common.files import write_text
from slimcam.deploy.common.hydra_args import with_texts
from slimcam.deploy.latency.record import Record, first_of_each
from slimcam.pipeline.cli import is_path
from slimcam.pipeline.config import Config, register, validate
from slimcam.pipeline.report import wording
from slimcam.pipeline.run import StageError, run
from slimcam.pipeline.store import RECEIPT
from slimcam.pipeline.worker import RESULTS_OF
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Evaluation, task_of

SCHEMES = (
    "none",
    "float16",
    "weights_int8",
    "weights_int4",
    "dynamic",
    "ptq_int16x8",
    "ptq_int8",
    "mixed",
    "qat_int8",
    "case_study",
)
_STAGES = "stages=[train,prune,quantize,convert]"


@dataclass(frozen=True)
class Row:
    """One file.

    Attributes:
        name: `dense`, `pruned`, or the scheme.
        accuracy: What the task measures, as a share.
        change: Of it against the dense model, with `low` and `high` of the 95 % interval; None for the dense model.
        size_mb: Millions of bytes.
        latency_ratio: The dense model's typical latency over this one's, measured in turn.
        delegated: Operators that the delegate runs, None where the target does not tell.
        operators: All of them.
        minutes: That the quantize stage took.
    """

    name: str
    accuracy: float
    change: Mapping[str, float] | None
    size_mb: float
    latency_ratio: float
    delegated: int | None
    operators: int
    minutes: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; prints the table and writes the rows."""
    log_to_console(to_stdout=RESULTS_OF)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemes", default=",".join(SCHEMES), help="configurations of quantize=, comma-separated")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the rows are written")
    parser.add_argument("overrides", nargs="*", help="options, as slimcam takes them")
    options = parser.parse_args(arguments)
    try:
        rows = compare(options.schemes.split(","), options.overrides)
    except (ValueError, OSError, RuntimeError, StageError, HydraException) as error:
        sys.exit(f"compare_schemes: {explain(error)}")
    write_text(options.json, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    show(table(rows))


def compare(schemes: Sequence[str], overrides: Sequence[str]) -> list[Row]:
    """Makes and measures the files of some schemes.

    Raises:
        ValueError: An option makes no sense.
        StageError: A stage failed.
    """
    register()
    folders: dict[str, Path] = {}
    minutes: dict[str, float] = {}
    for scheme in schemes:
        name, *own = scheme.split("+")
        config = _config([*overrides, f"quantize={name}", *own])
        results = run(config)
        folders |= {model: results["convert"] / model for model in ("dense", "pruned")}
        folders[name] = results["convert"] / "quantized"
        minutes[name] = json.loads((results["quantize"] / RECEIPT).read_text())["seconds"] / 60
    records = first_of_each(measure_on_target(folders, config.benchmark))
    evaluation = _evaluate(config, folders)
    return [_row(name, evaluation, records, minutes.get(name)) for name in folders]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| file | accuracy | change, points (95 % interval) | MB | times as fast | delegated | minutes |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [
            row.name,
            wording.percent(row.accuracy),
            wording.interval(**row.change) if row.change else wording.UNKNOWN,
            wording.megabytes(row.size_mb),
            wording.times(row.latency_ratio),
            f"{wording.UNKNOWN if row.delegated is None else row.delegated} of {row.operators}",
            wording.UNKNOWN if row.minutes is None else f"{row.minutes:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _config(overrides: Sequence[str]) -> Config:
    with initialize_config_module("slimcam.conf", version_base=None):
        return validate(compose("slimcam", [*with_texts(overrides, paths=is_path, lists=True), _STAGES]))


def _evaluate(config: Config, folders: Mapping[str, Path]) -> Evaluation:
    with TemporaryDirectory() as nowhere:
        job = Job(config, {}, Path(nowhere), Path(nowhere), Path(config.paths.cache).absolute())
        return task_of(job).evaluate(folders, test_alone=True)


def _row(name: str, evaluation: Evaluation, records: Mapping[str, Record], minutes: float | None) -> Row:
    record, dense = records[name], records["dense"]
    return Row(
        name,
        evaluation.accuracies[name],
        evaluation.changes.get(name),
        record.model.size_bytes / 1e6,
        dense.typical_ms / record.typical_ms,
        record.execution.delegated_operators,
        record.execution.operators,
        minutes,
    )


if __name__ == "__main__":
    main()
