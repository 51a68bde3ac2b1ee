"""The quantize stage: int8 quantization-aware training of the pruned model."""

from __future__ import annotations

import json
import logging
from functools import partial

from slimcam.deploy.common.files import write_text
from slimcam.deploy.inference.pixels import value_range
from slimcam.pipeline.stages.artifacts import ORIGINS, QUANTIZED, write_history
from slimcam.training.fit.files import MODEL, load_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.task import TrainingSpec, input_size, task_of

logger = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Writes `model.h5` (tf_keras, see `qat.load`), `origins.json` and `history.jsonl`.

    `origins.json` names the layer of the pruned model that each layer comes from.
    """
    import keras
    import tf_keras

    from slimcam.compression.normal_form.normalize import normalize
    from slimcam.compression.quantization import qat
    from slimcam.compression.quantization.equalize import equalize
    from slimcam.compression.quantization.keras2 import to_tf_keras

    config = job.config.quantize
    keras.utils.set_random_seed(job.config.train.seed)
    task = task_of(job)
    source = job.inputs["prune"]
    pruned = load_keras(source / MODEL)
    form = normalize(pruned, int8=True)
    for change in form.changes:
        logger.info(f"normal form: {change}")
    samples = partial(task.samples, config.calibration_images, input_size(pruned), 32)
    equalize(form.model, samples())
    model = qat.quantize_aware(to_tf_keras(form.model), input_range=value_range(task.input(input_size(pruned))))
    qat.calibrate(model, samples())
    qat.freeze_batch_norm(model)
    spec = TrainingSpec(config.fit, config.loss, config.teacher, source, tf_keras, "quantization-aware training")
    with qat.fixed_ranges(model):
        history = task.learn(model, spec, job)
    qat.save(model, job.out / QUANTIZED)
    write_text(job.out / ORIGINS, json.dumps(dict(form.origins)))
    write_history(job.out, history)
