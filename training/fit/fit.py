"""One fit: the same loop for Keras 3 models on any backend and for tf_keras models.

It counts in steps. A checkpoint holds every variable of model and optimizer as plain arrays, so that a run started on
one backend can go on with another; with `slimcam.training.data.recognition.batches` a resumed run sees the batches
that it would have seen. Only random numbers of layers themselves (Dropout) differ.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from slimcam.training.fit.checkpoint import History, Sampled, adopt, best_validated, restore, save, take_over
from slimcam.training.fit.config import FitConfig, Optimizer, Precision
from slimcam.training.fit.devices import data_parallel, multiplies_bfloat16, own_rows, scope, take_from_first
from slimcam.training.fit.events import event_writer, write_event
from slimcam.training.fit.progress import Progress
from slimcam.training.fit.rates import with_rates

logger = logging.getLogger(__name__)

Loss = Callable[[Any, Any], Any]


class Batches(Protocol):
    """An endless stream of batches, a function of the step alone, so that a resumed fit sees what it would have seen.

    A batch has `images`, normalized, and whatever `Objective.truth` makes the truth of.
    """

    @property
    def batch_size(self) -> int: ...

    @property
    def steps_per_epoch(self) -> float: ...

    def stream(self, sizes: list[int], start: int = 0) -> Generator[Any, None, None]:
        """Batches from step `start` on; `sizes[step]` is the height in pixels of the images of each step."""
        ...


@dataclass(frozen=True)
class Objective:
    """The loss of a fit.

    Attributes:
        losses: Functions `(y_true, y_pred) -> (N,)` by the name of the output that each is for; one for a model with a
            single, unnamed output.
        weights: Weight of each loss in the total.
        truth: From a batch to the targets of the model's outputs: one array, or a dictionary, as the outputs are.
    """

    losses: dict[str, Loss]
    weights: dict[str, float]
    truth: Callable[[Any], Any]


def fit(
    model: Any,
    batches: Batches,
    config: FitConfig,
    objective: Objective,
    work: Path,
    *,
    keras: Any,
    title: str = "training",
    events: Path | None = None,
    validate: Callable[[Any], float] | None = None,
    recalibrate: Callable[[Any], None] | None = None,
    rates: Mapping[int, float] | None = None,
    callbacks: Sequence[Any] = (),
    sampled: Sampled | None = None,
    begin: float = 0.0,
) -> History:
    """Trains a model in place, going on from the checkpoint in `work` if there is one.

    Args:
        work: Folder of the checkpoint.
        keras: Module that the model belongs to, `keras` or `tf_keras`.
        title: Begins the lines of progress.
        events: Folder of the events for TensorBoard.
        validate: From a model to its accuracy on held-out data, for `config.validations`.
        recalibrate: Sets the statistics of normalization in place, before each validation: weights are evaluated, and
            kept, with these statistics instead of training's moving ones.
        rates: Factors of the learning rate of variables of a tf_keras model, by their `id`.
        callbacks: Callbacks of `keras` that are told of the begin and the end of the training and of its epochs, of a
            resumed one too; their `params` are `epochs`, and `steps` of an epoch, both of which may be fractions.
        sampled: The part of a Keras 3 model that changes with each step, if there is one.
        begin: Epochs of the batches that earlier fits have seen: this one goes on from there.

    Returns:
        One entry for each line of progress: `step`, `epoch`, `loss` and its parts, `learning_rate`,
        `images_per_second` and, after a validation, `accuracy`.

    Raises:
        FloatingPointError: the loss is not finite any more.
        ValueError: validations are asked for, but nothing is held out; tf_keras is to train as Keras 3 alone can
            (`FitConfig.refuse_tf_keras`); or as for `data_parallel`.
    """
    count = batches.batch_size
    images = round(batches.steps_per_epoch * count)
    if count > images:
        raise ValueError(f"fit.batch_size is {count}, but there are {images} images: give {images} or less")
    if config.validations and validate is None:
        raise ValueError(
            "fit.validations: the data has no held-out set: hold some out (data.held_out..., docs/options.md), or "
            "set fit.validations=0"
        )
    if keras.__name__ == "tf_keras":
        config.refuse_tf_keras("this training")
    distribution = data_parallel(config, keras)
    # An update takes `accumulate` steps.
    steps = config.accumulate * max(1, round(config.epochs * batches.steps_per_epoch / config.accumulate))
    sizes = _sizes(config, steps, int(model.inputs[0].shape[1]))
    validations = {round((i + 1) * steps / config.validations) for i in range(config.validations)}
    with scope(distribution):
        learner = model if keras.__name__ == "tf_keras" else _accelerated(model, config, steps, keras)
        _compile(learner, config, objective, keras, rates)
    checkpoint, best = work / "checkpoint.npz", work / "best.npz"
    for file in (checkpoint, best):
        take_from_first(distribution, file)
    start, history = restore(learner, checkpoint, sampled)
    if _out_of_patience(config, history):  # killed between its last validation and its end
        start = steps
    if start:
        logger.info(f"{title}: resumed at step {start} of {steps}")
    writer = event_writer(events)
    for entry in history:
        write_event(writer, int(entry["step"]), _scalars(entry))
    progress = Progress(steps * count, title, unit="images", seconds=config.log_seconds, done=start * count)
    saved = logged = time.monotonic()
    logged_step = start
    seen = round(begin * batches.steps_per_epoch)
    stream = batches.stream([sizes[0]] * seen + sizes, seen + start)
    watchers = keras.callbacks.CallbackList(
        list(callbacks), model=learner, epochs=config.epochs, steps=batches.steps_per_epoch
    )
    watchers.on_train_begin()
    for step, batch in enumerate(stream, start):
        epoch = int(step / batches.steps_per_epoch)
        if step == start or epoch > int((step - 1) / batches.steps_per_epoch):
            watchers.on_epoch_begin(epoch)
        rate = learning_rate(config, step, steps)
        with scope(distribution):
            learner.optimizer.learning_rate = rate
            shown = batch if sampled is None else sampled.enter(learner, seen + step, batch)
            mine, truth = own_rows(distribution, (shown.images, objective.truth(shown)), keras)
            logs = learner.train_on_batch(mine, truth, **_options(keras))
            if sampled is not None:
                sampled.leave(learner)
        now = time.monotonic()
        done = step + 1
        if done == steps or int(done / batches.steps_per_epoch) > epoch:
            watchers.on_epoch_end(epoch)
        if now - logged >= config.log_seconds or done == steps or done in validations:
            speed = (done - logged_step) * count / (now - logged)
            entry = {"step": done, "epoch": done / batches.steps_per_epoch}
            entry |= {name: float(value) for name, value in logs.items()}
            entry |= {"learning_rate": rate, "images_per_second": speed}
            if not math.isfinite(entry["loss"]):
                raise FloatingPointError(f"{title}: the loss is {entry['loss']} at step {done}; lower learning_rate")
            if done in validations:
                assert validate is not None
                take_over(learner, model, config)
                if recalibrate is not None:
                    recalibrate(model)
                entry["accuracy"] = best_validated(model, validate, history, best)
                how = "" if recalibrate is None else ", with recalibrated statistics of normalization"
                logger.info(f"{title}: {100 * entry['accuracy']:.2f} % on held-out data{how}, step {done}")
            history.append(entry)
            progress.done = done * count
            progress.show(f"step {done} of {steps}, loss {entry['loss']:.4f}")
            write_event(writer, int(entry["step"]), _scalars(entry))
            learner.reset_metrics()
            logged, logged_step = time.monotonic(), done
        if now - saved >= config.checkpoint_seconds or done in validations:
            save(learner, done, history, checkpoint, sampled)
            saved = time.monotonic()
        if done in validations and _out_of_patience(config, history):
            logger.info(f"{title}: ends at step {done} of {steps}: {config.patience} validations without a better one")
            stream.close()
            break
    watchers.on_train_end()
    if steps > start:
        # Kept until the stage is done: what follows the fit may be killed too.
        save(learner, steps, history, checkpoint, sampled)
    if writer is not None:
        writer.close()
    adopt(learner, model, config, best)
    return history


def _out_of_patience(config: FitConfig, history: History) -> bool:
    """Whether as many validations as `config.patience` came after the best one."""
    accuracies = [entry["accuracy"] for entry in history if "accuracy" in entry]
    if not config.patience or not accuracies:
        return False
    best = max(range(len(accuracies)), key=lambda number: (accuracies[number], number))
    return len(accuracies) - 1 - best >= config.patience


def learning_rate(config: FitConfig, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to `final_fraction` of the peak (Loshchilov and Hutter 2017)."""
    warm = config.warmup * steps
    if step < warm:
        return config.learning_rate * (step + 1) / math.ceil(warm)
    done = (step - warm) / max(1.0, steps - warm)
    low = config.final_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def _compile(
    model: Any, config: FitConfig, objective: Objective, keras: Any, rates: Mapping[int, float] | None = None
) -> None:
    clip = {"global_clipnorm": config.clip_norm} if config.clip_norm > 0 else {}
    average = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    common: dict[str, Any] = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay or None}
    common |= {**clip, **average}
    if config.accumulate > 1:
        common["gradient_accumulation_steps"] = config.accumulate
    if config.optimizer == Optimizer.SGD:
        kind, own = keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}
    else:
        kind, own = keras.optimizers.AdamW, {"weight_decay": config.weight_decay}
        if config.optimizer == Optimizer.MUON:
            # Imported late, as it is a class of Keras 3.
            from slimcam.training.fit.muon import Muon

            kind = Muon
    optimizer = (with_rates(kind, rates) if rates else kind)(**{**common, **own})
    if config.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    # XLA compiles the step on JAX whatever is said here; on TensorFlow and a CPU it makes it slower.
    options = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}
    if isinstance(model.output, dict):
        model.compile(optimizer=optimizer, loss=objective.losses, loss_weights=objective.weights, **options)
    else:
        (only,) = objective.losses.values()
        model.compile(optimizer=optimizer, loss=only, **options)
    optimizer.build(model.trainable_variables)


def _accelerated(model: Any, config: FitConfig, steps: int, keras: Any) -> Any:
    # Imported late, as the losses are.
    from slimcam.training.fit.accelerate import accelerated

    if config.precision == Precision.BFLOAT16 and not multiplies_bfloat16(keras):
        logger.warning(
            "fit.precision=bfloat16: this processor has no instructions for it and would take many times as long; "
            "trained in float32"
        )
        config = replace(config, precision=Precision.FLOAT32.value)
    return accelerated(model, config, steps)


def _sizes(config: FitConfig, steps: int, size: int) -> list[int]:
    """The pixels of the images of each step."""
    sizes = config.sizes or [size]
    return [sizes[step * len(sizes) // steps] for step in range(steps)]


def _options(keras: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"return_dict": True}
    if keras.__name__ == "tf_keras":
        options["reset_metrics"] = False
    return options


def _scalars(entry: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in entry.items() if name != "step"}
