"""The convert stage: the dense, the pruned and the quantized model as TFLite files in bundles."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.compression.export.delegation import delegation_problems
from slimcam.compression.export.rounding import rounded_alike
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.quantization.schemes import LayerPolicy, Scheme
from slimcam.deploy.common.files import write_text
from slimcam.deploy.inference.bundle import write_bundle
from slimcam.deploy.inference.model import Model
from slimcam.deploy.inference.pixels import normalized
from slimcam.deploy.inference.preprocessing import agreement
from slimcam.pipeline.stages.artifacts import FIDELITY, ORIGINS, PLAN, QUANTIZED, QUANTIZED_FILE, SCHEME, ZEROS
from slimcam.pipeline.stages.model_card import model_card
from slimcam.training.fit.files import MODEL, load_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Task, input_size, task_of

logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes a bundle for each of `VARIANTS`, and `fidelity.json`: how well the quantized file follows its model.

    What XNNPACK does not run of the int8 file is logged by operator and layer; the gate `delegated` looks at it.
    """
    from slimcam.compression.export import tflite

    config = job.config
    task = task_of(job)
    dense, pruned = (load_keras(job.inputs[stage] / MODEL) for stage in ("train", "prune"))
    size = input_size(dense)
    spec = task.input(size)
    images = task.test_images(config.convert.fidelity_images, size)
    samples = task.samples(config.quantize.calibration_images, size, 32)
    quantized, expected = _quantized(job, pruned, normalized(images, spec), samples)
    files = {
        "dense": tflite.float_tflite(dense),
        "pruned": tflite.float_tflite(pruned, sparse=config.convert.sparse),
        "quantized": quantized,
    }
    origins = json.loads((job.inputs["quantize"] / ORIGINS).read_text())
    if not _scheme(job.inputs["quantize"])["layers"]:  # some of which are to run in float
        for problem in delegation_problems(files["quantized"], origins):
            logger.warning(f"not delegated: {problem}")
    golden = task.golden_images(size)
    origin = provenance(job, task)
    for name, content in files.items():
        write_bundle(
            job.out / name,
            name=f"{dense.name}-{name}",
            task=task.name,
            model=content,
            input=spec,
            golden_input=golden,
            golden_output=Model(content, spec).outputs(golden),
            provenance=origin,
            license=config.convert.license,
            classes=task.classes,
            card=model_card(f"{dense.name}-{name}", task, config.convert.license, origin),
        )
        logger.info(f"{name}: {len(content) / 1e6:.2f} MB")
    cosines = agreement(Model(files["quantized"], spec).outputs(images), expected)
    result = {"images": len(cosines), "mean": float(cosines.mean()), "min": float(cosines.min())}
    write_text(job.out / FIDELITY, json.dumps(result))
    logger.info(f"quantized file against its model, cosine over {len(cosines)} images: mean {cosines.mean():.4f}")


def _quantized(job: Job, pruned: Any, images: Any, samples: Any) -> tuple[bytes, Any]:
    """The quantized file, and what the model that it is made of gives for images.

    That is the quantization-aware model where there is one, else the pruned one. `samples` are batches to calibrate on.
    """
    from slimcam.compression.export import tflite
    from slimcam.compression.quantization import qat
    from slimcam.compression.quantization.trained import trained_file

    folder = job.inputs["quantize"]
    if (folder / QUANTIZED_FILE).is_file():
        # An older result of the quantize stage is as it was quantized.
        return rounded_alike((folder / QUANTIZED_FILE).read_bytes()), np.asarray(pruned.predict(images, verbose=0))
    model = qat.load(folder / QUANTIZED)
    # Before the conversion: it may widen ranges in the model itself, and that change is part of what is evaluated.
    expected = np.asarray(model.predict(images, verbose=0))
    origins = json.loads((folder / ORIGINS).read_text())
    policies = _scheme(folder)["layers"]
    floats = {name: LayerPolicy.FLOAT for name, origin in origins.items() if policies.get(origin) == LayerPolicy.FLOAT}
    if floats:
        return trained_file(model, floats, samples, job.config.quantize.percentile), expected
    return tflite.int8_tflite(model), expected


def _scheme(folder: Path) -> dict[str, Any]:
    scheme: dict[str, Any] = json.loads((folder / SCHEME).read_text())
    return scheme


def provenance(job: Job, task: Task) -> dict[str, Any]:
    """What a model was made of, for its bundle and card."""
    config = job.config
    fits = {"train": config.train.fits, "prune": [config.prune.fit]}
    scheme = _scheme(job.inputs["quantize"])
    if Scheme(scheme["scheme"]).facts.trains:
        fits["quantize"] = [config.quantize.fit]
    titles = {"train": "dense", "prune": "fine-tuning", "quantize": "quantization-aware"}
    origin = task.origin()
    plan = PruningPlan.load(job.inputs["prune"] / PLAN)
    zeros = _zeros(job.inputs["prune"] / ZEROS)
    return {
        **origin,
        "taught_stages": [stage for stage in origin["taught_stages"] if stage in fits],
        "quantization": scheme,
        "pruned_share": plan.removed,
        "pruned_channels": plan.channels[0],
        "pruned_scope": config.prune.scope,
        "pruned_steps": config.prune.steps,
        "pruned_weights": config.prune.beginning,
        **({} if zeros is None else {"zero_weights": zeros}),
        "credits": list(config.convert.credits),
        "epochs": {titles[stage]: sum(fit.epochs for fit in phases) for stage, phases in fits.items()},
        "validated_stages": [
            stage
            for stage, phases in fits.items()
            # By magnitude the last weights are taken.
            if any(fit.validations for fit in phases) and not (stage == "prune" and zeros is not None)
        ],
    }


def _zeros(file: Path) -> float | None:
    """The share of the weights of all kernels that are zero, None where channels were pruned."""
    if not file.is_file():
        return None
    counts = json.loads(file.read_text()).values()
    return float(sum(zero for zero, _ in counts) / sum(size for _, size in counts))
