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

from training.data.batches import Batch, Batches, normalize, plain_batches
from training.data.faces import Verification
from training.files import save_arrays
from training.models import COSINES, EMBEDDING, FEATURES
from training.progress import Progress
from training.recipe import FitConfig, LossConfig
from training.verification import fold_accuracy, pair_scores

History = list[dict[str, float]]


def fit(
    model: Any,
    batches: Batches,
    config: FitConfig,
    loss: LossConfig,
    work: Path,
    *,
    keras: Any,
    title: str = "training",
    events: Path | None = None,
    held_out: Verification | None = None,
) -> History:
    """Trains a model in place, going on from the checkpoint in `work` if there is one.

    Args:
        model: image -> embedding, or with the outputs of `training.models.with_classifier` if `loss` classifies
            and of `with_features` if it has a weight for those.
        batches: with targets if `loss` distils.
        work: folder for the checkpoint.
        keras: the module that the model belongs to, `keras` or `tf_keras`.
        title: of the progress lines.
        events: folder for TensorBoard.
        held_out: other people's faces, to judge the model on if `config.validations` asks for it.

    Returns:
        One entry for each line of progress: `step`, `epoch`, `loss` and its parts, `learning_rate`,
        `images_per_second` and, after a validation, `accuracy`.

    Raises:
        FloatingPointError: the loss is not finite any more.
        ValueError: `loss` distils, but there are no targets; validations are asked for, but nobody is held out; or
            tf_keras is to train in bfloat16 or in several sizes.
    """
    if loss.distillation_weight > 0 and batches.targets is None:
        raise ValueError("distillation needs the targets of a teacher")
    if loss.features_weight and keras.__name__ == "tf_keras":
        raise ValueError("loss.features_weight is for Keras 3, not for quantisation-aware training")
    if config.validations and held_out is None:
        raise ValueError("fit.validations: the data holds nobody out to judge the model on; set fit.validations=0")
    learner = model if keras.__name__ == "tf_keras" else _accelerated(model, config)
    if learner is model and (config.sizes or config.precision != "float32"):
        raise ValueError("fit.sizes and fit.precision=bfloat16 are for Keras 3, not for quantisation-aware training")
    steps = max(1, round(config.epochs * batches.steps_per_epoch))
    sizes = _sizes(config, steps, int(model.inputs[0].shape[1]))
    validations = {round((i + 1) * steps / config.validations) for i in range(config.validations)}
    _compile(learner, config, loss, keras)
    checkpoint, best = work / "checkpoint.npz", work / "best.npz"
    start, history = _restore(learner, checkpoint)
    if start:
        print(f"{title}: resumed at step {start} of {steps}", flush=True)
    writer = _event_writer(events)
    for entry in history:
        _write_event(writer, entry)
    count = batches.batch_size
    progress = Progress(steps * count, title, unit="images", seconds=config.log_seconds, done=start * count)
    saved = logged = time.monotonic()
    logged_step = start
    stream = batches.stream(sizes, start)
    for step, batch in enumerate(stream, start):
        rate = learning_rate(config, step, steps)
        learner.optimizer.learning_rate = rate
        logs = learner.train_on_batch(batch.images, _truth(batch, loss), **_options(keras))
        now = time.monotonic()
        done = step + 1
        if now - logged >= config.log_seconds or done == steps or done in validations:
            speed = (done - logged_step) * count / (now - logged)
            entry = {"step": done, "epoch": done / batches.steps_per_epoch}
            entry |= {name: float(value) for name, value in logs.items()}
            entry |= {"learning_rate": rate, "images_per_second": speed}
            if not math.isfinite(entry["loss"]):
                raise FloatingPointError(f"{title}: the loss is {entry['loss']} at step {done}; lower learning_rate")
            if done in validations:
                assert held_out is not None
                entry["accuracy"] = _validate(learner, model, config, held_out, history, best)
                print(f"{title}: {100 * entry['accuracy']:.2f} % on people held out, step {done}", flush=True)
            history.append(entry)
            progress.done = done * count
            progress.show(f"step {done} of {steps}, loss {entry['loss']:.4f}")
            _write_event(writer, entry)
            learner.reset_metrics()
            logged, logged_step = time.monotonic(), done
        if now - saved >= config.checkpoint_seconds or done in validations:
            _save(learner, done, history, checkpoint)
            saved = time.monotonic()
    if steps > start:
        # Kept until the stage is done: what follows the fit may be killed too.
        _save(learner, steps, history, checkpoint)
    if writer is not None:
        writer.close()
    _adopt(learner, model, config, best)
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
    average = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    common = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay or None, **clip, **average}
    if config.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(momentum=0.9, nesterov=True, **common)
    else:
        optimizer = keras.optimizers.AdamW(**{**common, "weight_decay": config.weight_decay})
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    # XLA compiles the step on JAX whatever is said here; on TensorFlow and a CPU it makes it slower.
    options = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}
    parts: dict[str, Any] = {}
    weights: dict[str, float] = {}
    if loss.classifies:
        parts[COSINES], weights[COSINES] = losses.classification(loss), loss.classification_weight
    if loss.distillation_weight > 0:
        parts[EMBEDDING], weights[EMBEDDING] = losses.distillation, loss.distillation_weight
    if loss.features_weight > 0:
        parts[FEATURES], weights[FEATURES] = losses.features, loss.features_weight
    if isinstance(model.output, dict):
        model.compile(optimizer=optimizer, loss=parts, loss_weights=weights, **options)
    else:
        model.compile(optimizer=optimizer, loss=losses.distillation, **options)
    optimizer.build(model.trainable_variables)


def _accelerated(model: Any, config: FitConfig) -> Any:
    # Imported late, as the losses are.
    from training.speed import accelerated

    return accelerated(model, config)


def _sizes(config: FitConfig, steps: int, size: int) -> list[int]:
    """The pixels of the images of each step."""
    sizes = config.sizes or [size]
    return [sizes[step * len(sizes) // steps] for step in range(steps)]


def _averaged(learner: Any, config: FitConfig) -> list[NDArray[np.float32]]:
    """The weights that count: the moving average where there is one."""
    current: list[NDArray[np.float32]] = learner.get_weights()
    if not config.ema:
        return current
    learner.optimizer.finalize_variable_values(learner.trainable_variables)
    averaged: list[NDArray[np.float32]] = learner.get_weights()
    learner.set_weights(current)
    return averaged


def _validate(
    learner: Any, model: Any, config: FitConfig, held_out: Verification, history: History, best: Path
) -> float:
    """Accuracy on people held out; weights better than any before go to `best`."""
    weights = _averaged(learner, config)
    model.set_weights(weights)
    size = int(model.inputs[0].shape[1])
    parts = []
    for batch in plain_batches(held_out.faces.images, size, 64):
        output = model.predict_on_batch(normalize(batch))
        parts.append(np.asarray(output[EMBEDDING] if isinstance(output, dict) else output, dtype=np.float32))
    accuracy = fold_accuracy(pair_scores(np.concatenate(parts), held_out.pairs), held_out.pairs).mean
    if accuracy >= max((entry.get("accuracy", 0.0) for entry in history), default=0.0):
        save_arrays(best, **{f"weight_{i}": value for i, value in enumerate(weights)})
    return accuracy


def _adopt(learner: Any, model: Any, config: FitConfig, best: Path) -> None:
    """Gives the model the weights of the fit: the best that were validated, or the last."""
    if config.validations:
        with np.load(best) as saved:
            model.set_weights([saved[f"weight_{i}"] for i in range(len(saved.files))])
    else:
        model.set_weights(_averaged(learner, config))


def _truth(batch: Batch, loss: LossConfig) -> Any:
    """What the outputs of the learner should be."""
    truth: dict[str, Any] = {}
    if loss.classifies:
        truth[COSINES] = batch.labels
    if batch.lesson is not None and loss.distillation_weight > 0:
        truth[EMBEDDING] = batch.lesson.embeddings
        if loss.features_weight > 0:
            truth[FEATURES] = batch.lesson.features
    return truth if loss.classifies or loss.features_weight > 0 else truth[EMBEDDING]


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
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError:
        print("TensorBoard is not installed: the history is written, but no events for it", flush=True)
        return None
    return EventFileWriter(str(folder))


def _write_event(writer: Any, entry: dict[str, float]) -> None:
    if writer is None:
        return
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=value) for name, value in entry.items() if name != "step"]
    writer.add_event(Event(wall_time=time.time(), step=int(entry["step"]), summary=Summary(value=values)))
