"""The one stage of a model file alone: pruned if that is asked for, quantized without training, converted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.compression.compressed import Compressed, compress, require_fixed_size
from slimcam.compression.export.graph import Graph
from slimcam.compression.model_files import load_model
from slimcam.compression.normal_form.normalize import normalize
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.samples import Samples
from slimcam.deploy.common.files import write_text
from slimcam.deploy.inference.pixels import PixelFormat, input_spec, normalized
from slimcam.pipeline.stages.artifacts import COMPRESSED, PLAN, SUMMARY, TFLITE
from slimcam.pipeline.stages.chosen_plan import chosen_plan, tell
from slimcam.training.data.samples import batches
from slimcam.training.fit.files import MODEL, save_keras
from slimcam.training.tasks.backbone import rescaling_layer
from slimcam.training.tasks.job import Job


def run(job: Job) -> None:
    """Writes `model.tflite`, `compressed.json` and `summary.txt`; of a pruned model `model.keras`, plan and cost too.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no model that can be compressed so, or the images do not suit it.
    """
    config = job.config
    size = None if config.model.input_size is None else (config.model.input_size, config.model.input_size)
    try:
        model = load_model(config.model.path, size)
        require_fixed_size(model)
    except ValueError as error:
        raise ValueError(f"model.path: {error}") from error
    pixels = _pixels(config.model, model)
    samples = None
    if config.data.root is not None:
        images = list(_batches(config, model))
        spec = input_spec(pixels, *images[0].shape[1:3])
        samples = Samples(lambda: (normalized(batch, spec) for batch in images))
    compressed = compress(
        model,
        samples,
        scheme=config.quantize.scheme,
        layers=config.quantize.layers,
        percentile=config.quantize.percentile,
        input_range=config.quantize.spanned(input_spec(pixels, 1, 1)),
        plan=_plan(job, model, samples) if config.prune.asked else None,
    )
    compressed.save(job.out / TFLITE)
    if compressed.pruned is not None:
        save_keras(compressed.model, job.out / MODEL)
    write_text(job.out / COMPRESSED, json.dumps(_facts(compressed), indent=2))
    write_text(job.out / SUMMARY, compressed.summary())


def _plan(job: Job, model: Any, samples: Samples | None) -> PruningPlan:
    if isinstance(model, Graph):
        raise ValueError(
            f"model.path: {job.config.model.path} shows no layers, so no channel can be pruned; leave prune out, or "
            "give a .keras file of Keras 3"
        )
    flat = normalize(model).model
    plan = chosen_plan(job, flat, samples, seed=0)
    tell(job, flat, plan)
    plan.save(job.out / PLAN)
    return plan


def _pixels(config: Any, model: Any) -> PixelFormat:
    if config.pixels is not None:
        return PixelFormat(config.pixels)
    rescales = not isinstance(model, Graph) and rescaling_layer(model) is not None
    return PixelFormat.RAW if rescales else PixelFormat.MINUS_ONE_ONE


def _batches(config: Any, model: Any) -> Iterator[NDArray[np.uint8]]:
    """The images at the model's size."""
    shape = tuple(model.inputs[0].shape)
    if len(model.inputs) != 1 or len(shape) != 4 or shape[3] != 3:
        taken = ", ".join(str(tuple(tensor.shape)) for tensor in model.inputs)
        raise ValueError(
            f"data.root: the model takes {taken}, not one RGB image (None, height, width, 3); leave the images out, or "
            "give samples from Python (compression.compress)"
        )
    return batches(config.data.root, config.quantize.calibration_images, *shape[1:3])


def _facts(compressed: Compressed) -> dict[str, Any]:
    return {
        "scheme": compressed.scheme.value,
        "bytes": len(compressed.content),
        "parameters_before": compressed.parameters,
        "delegation": asdict(compressed.delegation),
        "fidelity_on": compressed.inputs,
        "fidelity": [asdict(each) for each in compressed.fidelity],
    }
