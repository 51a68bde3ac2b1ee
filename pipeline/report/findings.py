"""What a run found, read from the result folders of its stages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slimcam.deploy.inference.bundle import load_bundle
from slimcam.deploy.latency.record import Record, first_of_each, read_records
from slimcam.pipeline.report import table
from slimcam.pipeline.report.plots import Fit
from slimcam.pipeline.stages.artifacts import BENCHMARK, COST, DATA, EVALUATION, HISTORY, LAYERS, PLAN
from slimcam.pipeline.store import RECEIPT
from slimcam.training.tasks.job import Job

FITS = {"train": "dense", "prune": "pruned", "quantize": "quantized"}
"""The stages that train, and the model that each makes."""

TITLES = {"train": "training", "prune": "fine-tuning after pruning", "quantize": "quantization-aware training"}

_WORST = 8
"""Number of the layers that the report names."""


@dataclass(frozen=True)
class Effort:
    """What a stage took.

    Attributes:
        seconds: of its last process, which is all of it unless it was `resumed`.
        training_seconds, images: spent in the training loop, and images seen there; `None` without one.
    """

    stage: str
    seconds: float
    resumed: bool
    training_seconds: float | None = None
    images: int | None = None


@dataclass(frozen=True)
class Data:
    """The data of a run.

    Attributes:
        notes: what the source left out, one line each.
    """

    kind: str
    summary: str
    notes: list[str]


@dataclass(frozen=True)
class Findings:
    """All that a report tells.

    Attributes:
        evaluation: `evaluation.json` of the evaluate stage.
        records: of the benchmark, by model, the dense one first.
        plan: `kept` channel indices and `sizes` of each channel group.
        layers: the layers of the quantized model that lose most, worst first, with `error`, `before` and `limits`.
        own_errors: whether their errors are of each layer alone.
        origin: the provenance in the bundle of the compressed model.
        license: of the models.
        receipts: of each stage, by name.
        config: the sections of the configuration.
    """

    table: table.Table
    evaluation: dict[str, Any]
    records: dict[str, Record]
    plan: dict[str, Any]
    fits: tuple[Fit, ...]
    efforts: tuple[Effort, ...]
    data: Data
    layers: dict[str, dict[str, Any]]
    own_errors: bool
    origin: dict[str, Any]
    license: str
    receipts: dict[str, dict[str, Any]]
    config: dict[str, Any]


def gather(job: Job) -> Findings:
    """Reads the results of all stages before the report.

    Raises:
        OSError: a result file is missing.
        ValueError: a result file is damaged.
    """
    folders = job.inputs
    # The figures are those of the first number of threads that was measured.
    records = first_of_each(read_records(folders["benchmark"] / BENCHMARK))
    evaluation = _read(folders["evaluate"] / EVALUATION)
    histories = {stage: _read_lines(folders[stage] / HISTORY) for stage in FITS}
    receipts = {stage: _read(folder / RECEIPT) for stage, folder in folders.items()}
    quantized = _read(folders["quantize"] / LAYERS)
    bundle = load_bundle(folders["convert"] / list(records)[-1])
    config: dict[str, Any] = {
        name: value if isinstance(value, (str, int, float)) else asdict(value)
        for name, value in vars(job.config).items()
    }
    return Findings(
        table=table.build(
            job.config.name,
            bundle.provenance["backbone"],
            _read(folders["prune"] / COST),
            evaluation,
            list(records.values()),
            {name: load_bundle(folders["convert"] / name).model.read_bytes() for name in records},
        ),
        evaluation=evaluation,
        records=records,
        # Not through slimcam.compression.pruning.plan: that imports Keras.
        plan=_read(folders["prune"] / PLAN),
        fits=tuple(
            Fit(f"{TITLES[stage]} ({FITS[stage]})", FITS[stage], histories[stage]) for stage in FITS if histories[stage]
        ),
        efforts=tuple(_effort(stage, receipt, histories.get(stage, []), config) for stage, receipt in receipts.items()),
        data=Data(**_read(folders["train"] / DATA)),
        layers=_worst(quantized["layers"]),
        own_errors=quantized["own"],
        origin=bundle.provenance,
        license=bundle.license,
        receipts=receipts,
        config=config,
    )


def _worst(layers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    names = sorted(layers, key=lambda name: layers[name]["error"]["sqnr_db"])
    return {name: layers[name] for name in names[:_WORST]}


def _effort(
    stage: str, receipt: Mapping[str, Any], history: Sequence[Mapping[str, float]], config: Mapping[str, Any]
) -> Effort:
    if not history:
        return Effort(stage, receipt["seconds"], receipt["resumed"])
    batch = config[stage]["fit"]["batch_size"]
    starts = [0.0, *(entry["step"] for entry in history[:-1])]
    training = sum(
        (entry["step"] - start) * batch / entry["images_per_second"]
        for start, entry in zip(starts, history, strict=True)
    )
    return Effort(stage, receipt["seconds"], receipt["resumed"], training, round(history[-1]["step"] * batch))


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete its folder and run again") from error
    return values


def _read_lines(path: Path) -> list[dict[str, float]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete its folder and run again") from error
