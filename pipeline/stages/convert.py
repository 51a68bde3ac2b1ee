"""The convert stage: the dense, the pruned and the quantized model as TFLite files in bundles."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np

from slimcam.compression.export.delegation import delegation_problems
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.deploy.common.files import write_text
from slimcam.deploy.inference.bundle import InputSpec, write_bundle
from slimcam.deploy.inference.model import Model
from slimcam.deploy.inference.preprocessing import PIXEL_MEAN, PIXEL_SCALE, agreement
from slimcam.pipeline.stages.artifacts import FIDELITY, ORIGINS, PLAN, QUANTIZED
from slimcam.pipeline.stages.model_card import model_card
from slimcam.training.data.images import normalize
from slimcam.training.fit.files import MODEL, load_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Task, input_size, task_of

logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes a bundle for each of `VARIANTS`, and `fidelity.json`: how well the int8 file follows its model.

    What XNNPACK does not run of the int8 file is logged by operator and layer; the gate `delegated` judges it.
    """
    from slimcam.compression.export import tflite
    from slimcam.compression.quantization import qat

    config = job.config
    task = task_of(job)
    dense = load_keras(job.inputs["train"] / MODEL)
    quantized = qat.load(job.inputs["quantize"] / QUANTIZED)
    size = input_size(dense)
    images = task.test_images(config.convert.fidelity_images, size)
    # Before the conversion: it may widen ranges in the model itself, and that change is part of what is evaluated.
    expected = np.asarray(quantized.predict(normalize(images), verbose=0))
    files = {
        "dense": tflite.float_tflite(dense),
        "pruned": tflite.float_tflite(load_keras(job.inputs["prune"] / MODEL)),
        "quantized": tflite.int8_tflite(quantized),
    }
    origins = json.loads((job.inputs["quantize"] / ORIGINS).read_text())
    for problem in delegation_problems(files["quantized"], origins):
        logger.warning(f"not delegated: {problem}")
    spec = InputSpec(*size, PIXEL_MEAN, PIXEL_SCALE)
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
            card=model_card(f"{dense.name}-{name}", task, config.convert.license, origin),
        )
        logger.info(f"{name}: {len(content) / 1e6:.2f} MB")
    cosines = agreement(Model(files["quantized"], spec).outputs(images), expected)
    result = {"images": len(cosines), "mean": float(cosines.mean()), "min": float(cosines.min())}
    write_text(job.out / FIDELITY, json.dumps(result))
    logger.info(f"int8 file against its model, cosine over {len(cosines)} images: mean {cosines.mean():.4f}")


def provenance(job: Job, task: Task) -> dict[str, Any]:
    """What a model was made of, for its bundle and card."""
    config = job.config
    fits = {"train": config.train.fits, "prune": [config.prune.fit], "quantize": [config.quantize.fit]}
    plan = PruningPlan.load(job.inputs["prune"] / PLAN)
    return {
        **task.origin(),
        "pruned_share": plan.removed,
        "pruned_channels": plan.channels[0],
        "pruned_scope": config.prune.scope,
        "pruned_steps": config.prune.steps,
        "pruned_weights": config.prune.weights,
        "epochs": {
            "dense": sum(fit.epochs for fit in config.train.fits),
            "fine-tuning": config.prune.fit.epochs,
            "quantization-aware": config.quantize.fit.epochs,
        },
        "validated_stages": [stage for stage, phases in fits.items() if any(fit.validations for fit in phases)],
    }
