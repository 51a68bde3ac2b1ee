"""The evaluate stage: the `.tflite` files themselves, through the device's runtime, against the gates."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slimcam.compression.quantization.schemes import Scheme
from slimcam.deploy.common.files import write_text
from slimcam.deploy.inference.bundle import add_evaluation, load_bundle
from slimcam.deploy.latency.record import Record, first_of_each, read_records
from slimcam.pipeline.stages import gates
from slimcam.pipeline.stages.artifacts import BENCHMARK, BUNDLE, EVALUATION, FIDELITY, VARIANTS
from slimcam.pipeline.stages.model_card import model_card
from slimcam.training.tasks.bootstrap import Interval
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Evaluation, Task, task_of

logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes `evaluation.json` and the evaluated `bundle/` of the quantized model.

    A failed gate does not stop the stage: the figures are kept, and the pipeline ends with an error once the report
    is written.
    """
    config = job.config.evaluate
    task = task_of(job)
    folders = {name: job.inputs["convert"] / name for name in VARIANTS}
    evaluation = task.evaluate(folders)
    records = first_of_each(read_records(job.inputs["benchmark"] / BENCHMARK))
    fidelity = json.loads((job.inputs["convert"] / FIDELITY).read_text())
    change = Interval(**evaluation.changes["quantized"])
    quantization = load_bundle(folders["quantized"]).provenance["quantization"]
    accuracy = 100 * evaluation.accuracies["quantized"]
    found = figures(accuracy, change, records, fidelity["mean"], Scheme(quantization["scheme"]))
    checked = gates.check(found, config.gates)
    result = {
        "task": task.name,
        "measure": task.measure,
        "limits": task.limits,
        **asdict(evaluation),
        "remarks": remarks(evaluation, task.measure),
        "quantization": quantization,
        "fidelity": fidelity,
        "gates": [asdict(gate) for gate in checked],
    }
    write_text(job.out / EVALUATION, json.dumps(result, indent=2))
    _write_evaluated(task, folders["quantized"], job.out / BUNDLE, evaluation, result)
    for name in VARIANTS:
        logger.info(f"{name}: {task.measure.lower()} {100 * evaluation.accuracies[name]:.2f} %")
    for fact in evaluation.facts:
        logger.info("%s", fact)
    for gate in checked:
        logger.info("%s", gate.text)


def remarks(evaluation: Evaluation, measure: str) -> list[str]:
    """What whoever reads the gates has to know beside them."""
    dense = evaluation.accuracies["dense"]
    if evaluation.chance is None or dense > evaluation.chance:
        return []
    return [
        f"The dense model's {measure.lower()}, {100 * dense:.2f} %, is hardly better than guessing: what compression "
        "loses of it means nothing, and gates that compare with it pass for nothing. Train it longer, or on more data."
    ]


def figures(
    accuracy: float, change: Interval, records: dict[str, Record], fidelity: float, scheme: Scheme
) -> gates.Figures:
    """What the gates look at, from the benchmark's records of all variants."""
    dense, quantized = records["dense"], records["quantized"]
    memory = None if quantized.start is None else quantized.start.model_rss_bytes
    taken = quantized.execution.delegated_operators
    return gates.Figures(
        accuracy=accuracy,
        accuracy_change=change,
        size_mb=quantized.model.size_bytes / 1e6,
        latency_ratio=dense.typical_ms / quantized.typical_ms,
        memory_mb=None if memory is None else memory / 1e6,
        delegated=None if taken is None else taken / quantized.execution.operators,
        fidelity=fidelity,
        all_delegated=scheme.facts.delegated,
    )


def _write_evaluated(task: Task, folder: Path, out: Path, evaluation: Evaluation, result: dict[str, Any]) -> None:
    bundle = load_bundle(folder)
    add_evaluation(
        folder,
        out,
        thresholds=evaluation.thresholds,
        gates=result["gates"],
        card=model_card(bundle.name, task, bundle.license, bundle.provenance, evaluation.facts, result["gates"]),
        figures={
            "accuracy": evaluation.accuracies["quantized"],
            "dense_accuracy": evaluation.accuracies["dense"],
            "change": evaluation.changes["quantized"],
            **evaluation.figures,
            "fidelity": result["fidelity"],
        },
    )
