"""`slimcam-benchmark model=a.tflite` or `model=[a.tflite,bundle/]`: latency of models on a target, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from slimcam.deploy.benchmark import emulated
from slimcam.deploy.benchmark.targets import measure_on_target, register
from slimcam.deploy.common import application
from slimcam.deploy.common.console import show
from slimcam.deploy.common.hydra_args import with_texts
from slimcam.deploy.common.renamed_options import below
from slimcam.deploy.latency.record import write_records
from slimcam.deploy.latency.table import record_summary, record_table


@dataclass
class BenchmarkConfig:
    """The benchmark application.

    Attributes:
        model: a .tflite file or the folder of a bundle, `recognizer` or `detector` for those that come with slimcam, or
            a list of them; the first is what others are compared with.
        output: JSON file for the records; none is written where it is null.
        target: where to measure, and for how long; one of the configurations of `slimcam.deploy.benchmark.targets`.
    """

    model: Any = MISSING
    output: str | None = None
    target: Any = MISSING


RENAMED_OPTIONS = below("target", emulated.RENAMED_OPTIONS)
"""Former names of options, which work for one version more."""

ConfigStore.instance().store(group="schema", name="slimcam_benchmark", node=BenchmarkConfig)
register()


def main() -> None:
    """The console script."""
    application.run(
        _benchmark,
        program="slimcam-benchmark",
        config_name="slimcam_benchmark",
        overrides=lambda words: with_texts(words, paths=("model", "output"), lists=True),
        renamed=RENAMED_OPTIONS,
    )


def _benchmark(composed: DictConfig) -> None:
    if OmegaConf.is_missing(composed, "model"):
        raise ValueError("which model? give model=FILE.tflite, model=BUNDLE_FOLDER or model=[A,B]")
    config: Any = OmegaConf.to_object(composed)
    paths = config.model if isinstance(config.model, list) else [config.model]
    records = measure_on_target(name_models([Path(str(path)) for path in paths]), config.target)
    show(record_summary(records[0]))
    show(record_table(records))
    if config.output:
        write_records(records, Path(config.output))


def name_models(paths: Sequence[Path]) -> dict[str, Path]:
    """Names each model after its file or folder, or by its whole path where two would have one name.

    Raises:
        ValueError: a path is given twice.
    """
    if len(set(paths)) < len(paths):
        raise ValueError("a model is named twice; name each once")
    short = [path.resolve().name.removesuffix(".tflite") for path in paths]
    return {name if short.count(name) == 1 else str(path): path for name, path in zip(short, paths, strict=True)}


if __name__ == "__main__":
    main()
