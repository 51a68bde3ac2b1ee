"""The quantize stage: int8 quantisation-aware training of the pruned model."""

from __future__ import annotations

from compression.recovery import load_keras, recovery_targets
from training.data.batches import sample_batches
from training.data.load import load
from training.job import Job
from training.train import CENTRES, MODEL, learn, write_history

QUANTIZED = "model.h5"


def run(job: Job) -> None:
    """Writes `model.h5` (tf_keras, see `schemes.load`) and `history.jsonl`."""
    import keras
    import numpy as np
    import tf_keras

    from compression import schemes
    from compression.legacy import to_tf_keras

    config = job.config.quantize
    keras.utils.set_random_seed(job.config.train.seed)
    data = load(job.config.data, job.cache)
    pruned = load_keras(job.inputs["prune"] / MODEL)
    model = schemes.quantize_aware(to_tf_keras(pruned))
    size = int(pruned.inputs[0].shape[1])

    def calibrate() -> None:
        schemes.calibrate(model, sample_batches(data.train.images, config.calibration_images, size, 32))

    calibrate()
    schemes.freeze_batch_norm(model)
    targets = recovery_targets(job, data, config.loss, config.teacher)
    centres = job.inputs["prune"] / CENTRES
    start = np.load(centres)["kernel"] if centres.is_file() else None
    _, history = learn(
        job,
        model,
        data,
        config.fit,
        config.loss,
        targets,
        keras=tf_keras,
        title="quantisation-aware training",
        centres=start,
    )
    # Training saw the extremes of augmented images; the ranges of plain ones are finer, and are those of the device.
    calibrate()
    schemes.save(model, job.out / QUANTIZED)
    write_history(job.out, history)
