"""One fit: the same loop for Keras 3 models on any backend and for tf_keras models.

It counts in steps. A checkpoint holds every variable of model and optimizer as plain arrays, so that a run started on
one backend can go on with another; with `training.data.batches` a resumed run sees the batches that it would have seen.
Only what layers draw at random themselves (Dropout) starts anew.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.batches import Batch, Batches
from training.files import save_arrays
from training.models import COSINES, EMBEDDING
from training.progress import Progress
from training.recipe import FitConfig, LossConfig

History = list[dict[str, float]]


def fit(
    model: Any,
    batches: Batches,
    config: FitConfig,
    loss: LossConfig,
    work: Path,
    *,
    keras: Any,
    targets: NDArray[np.float32] | None = None,
    title: str = "training",
    events: Path | None = None,
) -> History:
    """Trains a model in place, going on from the checkpoint in `work` if there is one.

    Args:
        model: image -> embedding, or with the outputs of `training.models.with_classifier` if `loss` classifies.
        work: folder for the checkpoint.
        keras: the module that the model belongs to, `keras` or `tf_keras`.
        targets: `(N, E)` embedding that each training image should have; needed if `loss` distils.
        title: of the progress lines.
        events: folder for TensorBoard.

    Returns:
        One entry for each line of progress: `step`, `epoch`, `loss` and its parts, `learning_rate` and
        `images_per_second`.

    Raises:
        FloatingPointError: the loss is not finite any more.
        ValueError: `loss` distils, but there are no targets.
    """
    if loss.distillation_weight > 0 and targets is None:
        raise ValueError("distillation needs the targets of a teacher")
    steps = max(1, round(config.epochs * batches.steps_per_epoch))
    _compile(model, config, loss, keras)
    checkpoint = work / "checkpoint.npz"
    start, history = _restore(model, checkpoint)
    if start:
        print(f"{title}: resumed at step {start} of {steps}", flush=True)
    writer = _event_writer(events)
    for entry in history:
        _write_event(writer, entry)
    size = batches.batch_size
    progress = Progress(steps * size, title, unit="images", seconds=config.log_seconds, done=start * size)
    saved = logged = time.monotonic()
    logged_step = start
    stream = batches.stream(start)
    for step in range(start, steps):
        rate = learning_rate(config, step, steps)
        model.optimizer.learning_rate = rate
        batch = next(stream)
        logs = model.train_on_batch(batch.images, _truth(batch, loss, targets), **_options(keras))
        now = time.monotonic()
        if now - logged >= config.log_seconds or step + 1 == steps:
            speed = (step + 1 - logged_step) * size / (now - logged)
            entry = {"step": step + 1, "epoch": (step + 1) / batches.steps_per_epoch}
            entry |= {name: float(value) for name, value in logs.items()}
            entry |= {"learning_rate": rate, "images_per_second": speed}
            if not math.isfinite(entry["loss"]):
                raise FloatingPointError(
                    f"{title}: the loss is {entry['loss']} at step {step + 1}; lower learning_rate"
                )
            history.append(entry)
            progress.done = (step + 1) * size
            progress.show(f"step {step + 1} of {steps}, loss {entry['loss']:.4f}")
            _write_event(writer, entry)
            model.reset_metrics()
            logged, logged_step = now, step + 1
        if now - saved >= config.checkpoint_seconds:
            _save(model, step + 1, history, checkpoint)
            saved = time.monotonic()
    stream.close()
    if steps > start:
        # Kept until the stage is done: what follows the fit may be killed too.
        _save(model, steps, history, checkpoint)
    if writer is not None:
        writer.close()
    return history


def learning_rate(config: FitConfig, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to `final_fraction` of the peak (Loshchilov and Hutter 2017)."""
    warm = config.warmup * steps
    if step < warm:
        return config.learning_rate * (step + 1) / math.ceil(warm)
    done = (step - warm) / max(1.0, steps - warm)
    low = config.final_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def _compile(model: Any, config: FitConfig, loss: LossConfig, keras: Any) -> None:
    # Imported late: `keras` must find its backend set, and a process that only plans never needs it.
    from training import losses

    clip = {"global_clipnorm": config.clip_norm} if config.clip_norm > 0 else {}
    common = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay or None, **clip}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **common)
    else:
        optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": config.weight_decay})
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    # XLA compiles the step on JAX whatever is said here; on TensorFlow and a CPU it makes it slower.
    options = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}
    if loss.classifies:
        parts = {COSINES: losses.classification(loss)}
        weights = {COSINES: loss.classification_weight}
        if loss.distillation_weight > 0:
            parts[EMBEDDING], weights[EMBEDDING] = losses.distillation, loss.distillation_weight
        model.compile(optimizer=optimizer, loss=parts, loss_weights=weights, **options)
    else:
        model.compile(optimizer=optimizer, loss=losses.distillation, **options)
    optimizer.build(model.trainable_variables)


def _truth(batch: Batch, loss: LossConfig, targets: NDArray[np.float32] | None) -> Any:
    if loss.distillation_weight > 0:
        assert targets is not None
        target = targets[batch.indices]
        return {COSINES: batch.labels, EMBEDDING: target} if loss.classifies else target
    return {COSINES: batch.labels}


def _options(keras: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"return_dict": True}
    if keras.__name__ == "tf_keras":
        options["reset_metrics"] = False
    return options


def _save(model: Any, step: int, history: History, path: Path) -> None:
    weights = {f"weight_{i}": value for i, value in enumerate(model.get_weights())}
    state = {f"optimizer_{i}": np.asarray(value) for i, value in enumerate(model.optimizer.variables)}
    save_arrays(path, step=step, history=json.dumps(history), **weights, **state)


def _restore(model: Any, path: Path) -> tuple[int, History]:
    if not path.is_file():
        return 0, []
    with np.load(path) as saved:
        model.set_weights([saved[f"weight_{i}"] for i in range(len(model.get_weights()))])
        for i, variable in enumerate(model.optimizer.variables):
            variable.assign(saved[f"optimizer_{i}"])
        return int(saved["step"]), json.loads(str(saved["history"]))


def _event_writer(folder: Path | None) -> Any:
    if folder is None:
        return None
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    return EventFileWriter(str(folder))


def _write_event(writer: Any, entry: dict[str, float]) -> None:
    if writer is None:
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in entry.items() if name != "step"]
    writer.add_event(Event(wall_time=time.time(), step=int(entry["step"]), summary=Summary(value=values)))
