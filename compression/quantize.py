"""The quantize stage: int8 quantisation-aware training of the pruned model."""

from __future__ import annotations

from compression.recovery import load_keras, recover
from training.data.batches import sample_batches
from training.data.load import load
from training.job import Job
from training.train import MODEL, write_history

QUANTIZED = "model.h5"


def run(job: Job) -> None:
    """Writes `model.h5` (tf_keras, see `schemes.load`) and `history.jsonl`."""
    import keras
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
    _, history = recover(
        job, model, data, config, job.inputs["prune"], keras=tf_keras, title="quantisation-aware training"
    )
    # Training saw the extremes of augmented images; the ranges of plain ones are finer, and are those of the device.
    calibrate()
    schemes.save(model, job.out / QUANTIZED)
    write_history(job.out, history)
