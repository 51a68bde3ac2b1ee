"""The quantize stage: the pruned model in the numbers of the scheme that is configured."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tf_keras
from numpy.typing import NDArray

from slimcam.compression.export.delegation import layers_of
from slimcam.compression.normal_form.normalize import NormalForm
from slimcam.compression.quantization import mixed, post_training, qat
from slimcam.compression.quantization.equalize import equalize
from slimcam.compression.quantization.errors import layer_errors
from slimcam.compression.quantization.keras2 import to_tf_keras
from slimcam.compression.quantization.preparation import form_for, of_layers, prepare
from slimcam.compression.quantization.ranges import own_ranges
from slimcam.compression.quantization.schemes import LayerPolicy, Scheme
from slimcam.deploy.common.files import atomic, write_text
from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.model import Model
from slimcam.deploy.inference.pixels import normalized
from slimcam.pipeline.stages.artifacts import ORIGINS, QUANTIZED, QUANTIZED_FILE, SCHEME, write_history
from slimcam.pipeline.stages.layers import QuantizedLayer, write_layers
from slimcam.pipeline.stages.model_card import scheme_line
from slimcam.training.fit.checkpoint import History
from slimcam.training.fit.files import MODEL, load_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import Task, TrainingSpec, input_size, task_of

logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes `model.h5` (tf_keras, see `qat.load`) of a scheme that is trained, of others `model.tflite`.

    Beside it `scheme.json` (the scheme, and the layers that are an exception to it), `origins.json` (the layer of the
    pruned model that each layer comes from), `layers.json` (what each layer loses) and `history.jsonl`, empty without
    training.
    """
    config = job.config.quantize
    scheme = Scheme(config.scheme)
    keras.utils.set_random_seed(job.config.train.seed)
    task = task_of(job)
    pruned = load_keras(job.inputs["prune"] / MODEL)
    form = form_for(pruned, scheme)
    for change in form.changes:
        logger.info(f"normal form: {change}")
    policies = of_layers(config.layers, pruned, form)
    samples = partial(task.samples, config.calibration_images, input_size(pruned), 32)
    history: History = []
    if scheme.facts.trains:
        history = _train(job, task, pruned, form, policies, samples)
    else:
        content, policies = _post_training(job, task, pruned, form, policies, samples)
        with atomic(job.out / QUANTIZED_FILE) as partial_file:
            partial_file.write_bytes(content)
    found = {"scheme": scheme.value, "numbers": scheme.facts.text, "layers": policies}
    logger.info(f"quantized: {scheme_line(found)}")
    write_text(job.out / SCHEME, json.dumps(found, indent=2))
    write_text(job.out / ORIGINS, json.dumps(dict(form.origins)))
    write_history(job.out, history)


def _train(job: Job, task: Task, pruned: Any, form: NormalForm, policies: Mapping[str, str], samples: Any) -> History:
    config = job.config.quantize
    equalize(form.model, samples())
    floats = [name for name, origin in form.origins.items() if policies.get(origin) == LayerPolicy.FLOAT]
    model = qat.quantize_aware(
        to_tf_keras(form.model), input_range=config.spanned(task.input(input_size(pruned))), float_kernels=floats
    )
    qat.calibrate(model, samples(), config.percentile)
    qat.freeze_batch_norm(model)
    factors = of_layers(config.learning_rates, pruned, form)
    rates = {
        id(weight): factors[form.origins[wrapper.layer.name]]
        for wrapper in qat.wrappers(model)
        if form.origins[wrapper.layer.name] in factors
        for weight in wrapper.trainable_weights
    }
    spec = TrainingSpec(
        config.fit,
        config.loss,
        config.teacher,
        job.inputs["prune"],
        tf_keras,
        "quantization-aware training",
        rates=rates,
    )
    images = next(samples())
    before = layer_errors(model, images)
    with qat.fixed_ranges(model):
        history = task.learn(model, spec, job)
    limits = own_ranges(model)
    layers = {
        name: QuantizedLayer(error, before.get(name), limits.get(name))
        for name, error in layer_errors(model, images).items()
    }
    write_layers(job.out, layers, own=True, steps=int(history[-1]["step"]))
    qat.save(model, job.out / QUANTIZED)
    return history


def _post_training(
    job: Job, task: Task, pruned: Any, form: NormalForm, policies: Mapping[str, str], samples: Any
) -> tuple[bytes, dict[str, str]]:
    """The quantized file, and the policies of the layers that are an exception to the scheme."""
    config = job.config.quantize
    scheme = Scheme(config.scheme)
    prepared = prepare(
        form,
        scheme,
        samples,
        policies,
        percentile=config.percentile,
        input_range=config.spanned(task.input(input_size(pruned))),
    )
    content, ranges, exceptions = prepared.content, prepared.ranges, dict(prepared.exceptions)
    if scheme is Scheme.NONE:
        write_layers(job.out, {}, own=False)
        return content, {}
    if scheme is Scheme.MIXED:
        kept = _kept_float(job, task, pruned, content, ranges, exceptions, next(samples()))
        exceptions |= dict.fromkeys(kept, LayerPolicy.FLOAT.value)
        floats = [layer for name in kept for layer in layers_of(name, form.origins)]
        policies = {**policies, **dict.fromkeys(floats, LayerPolicy.FLOAT.value)}
    file = post_training.quantized(content, scheme, ranges, exceptions)
    layers = {
        next(reversed(layers_of(name, form.origins)), name): QuantizedLayer(error, None, (ranges or {}).get(name))
        for name, error in post_training.tensor_errors(content, file, next(samples())).items()
    }
    write_layers(job.out, layers, own=False)
    return file, dict(policies)


def _kept_float(
    job: Job, task: Task, pruned: Any, content: bytes, ranges: Any, exceptions: Mapping[str, str], images: Any
) -> Sequence[str]:
    """The operators that stay float of a mixed file, as few as do for its accuracy, by the name of their output."""
    size = input_size(pruned)
    spec = task.input(size)
    dense = load_keras(job.inputs["train"] / MODEL)
    before, after = (task.validate(_outputs(model, spec), size) for model in (dense, pruned))
    if before is None or after is None:
        raise ValueError(
            "scheme=mixed: this task has no accuracy on data that is held out; say by quantize.layers what stays float"
        )
    # What pruning has lost already, int8 cannot bring back.
    least = min(before - job.config.quantize.accuracy_loss / 100, after)
    logger.info(f"held-out data: dense {before:.2%}, pruned {after:.2%}; the file needs {least:.2%}")
    errors = mixed.operator_errors(content, ranges, images)

    def suffices(kept: Sequence[str]) -> bool:
        policies = {**exceptions, **dict.fromkeys(kept, LayerPolicy.FLOAT.value)}
        file = post_training.quantized(content, Scheme.MIXED, ranges, policies)
        accuracy = task.validate(Model(file, spec).outputs, size)
        assert accuracy is not None
        logger.info(f"held-out data: {accuracy:.2%} with {len(kept)} of {len(errors)} operators in float")
        return bool(accuracy >= least)

    return mixed.fewest(sorted(errors, key=lambda name: errors[name].sqnr_db), suffices)


def _outputs(model: Any, spec: InputSpec) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    return lambda pixels: np.asarray(model.predict_on_batch(normalized(pixels, spec)), np.float32)
