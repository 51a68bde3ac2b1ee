"""Single weights that become zero while a tf_keras model trains, the smallest of each kernel first, with tfmot.

Nothing gets smaller or faster by itself: the zeros are there for compression of the file, and for kernels that skip
them (docs/pruning.md). For a network that is smaller, cut channels.

    sparse = sparsity_aware(to_tf_keras(model), 0.8)
    sparse.compile(...)
    sparse.fit(..., callbacks=pruning_callbacks("tensorboard"))
    adopt_weights(model, strip(sparse))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow_model_optimization.python.core.sparsity.keras import (
    prune,
    prune_registry,
    pruning_policy,
    pruning_schedule,
    pruning_wrapper,
)
from tensorflow_model_optimization.python.core.sparsity.keras import (
    pruning_callbacks as callbacks,
)

from slimcam.compression.errors import CompressionError
from slimcam.compression.pruning.config import MagnitudeConfig, Policy
from slimcam.compression.quantization.schemes import by_pattern
from slimcam.deploy.common.messages import one_line


def sparsity_aware(
    model: tf_keras.Model,
    ratio: float,
    config: MagnitudeConfig | None = None,
    *,
    keep: Sequence[str] = (),
    ratios: Mapping[str, float] | None = None,
) -> tf_keras.Model:
    """Returns a model of the same layers that makes weights zero while it trains with `pruning_callbacks`.

    Args:
        model: functional, as `to_tf_keras` gives it.
        ratio: Share of each kernel that is zero at the end.
        config: Schedule and pattern.
        keep: Patterns of layers whose kernels stay whole; `first` and `last` are those of the first and last kernel.
        ratios: Shares of their own for layers, by pattern.

    Raises:
        CompressionError: there is no kernel to prune, a pattern matches none, or the model is not one for the policy
            or the blocks; the message names the layers.
    """
    config = config or MagnitudeConfig()
    kernels = {layer.name: layer for layer in model.layers if _prunable(layer)}
    if config.policy == Policy.XNNPACK:
        policy = pruning_policy.PruneForLatencyOnXNNPack()
        try:
            policy.ensure_model_supports_pruning(model)
        except ValueError as error:
            raise CompressionError(f"magnitude.policy=xnnpack: {one_line(error)}; set magnitude.policy=all") from error
        kernels = {name: layer for name, layer in kernels.items() if policy.allow_pruning(layer)}
    kept = _matching("keep", dict.fromkeys(keep, True), kernels)
    shares = _matching("ratios", ratios or {}, kernels)
    chosen = {name: shares.get(name, ratio) for name in kernels if name not in kept}
    if not any(chosen.values()):
        raise CompressionError(
            f"no weight of model {model.name!r} is to become zero: it has {len(kernels)} kernels that can be pruned, "
            f"of which keep leaves {len(kept)} whole, and ratio is {ratio:g}; change these"
        )
    blocked = config.block_size != [1, 1]
    if deep := [name for name in chosen if blocked and len(kernels[name].kernel.shape) != 2]:
        raise CompressionError(
            f"magnitude.block_size is for dense kernels, and that of {', '.join(deep)} has more axes; leave these out "
            "by keep, or set magnitude.block_size=[1,1]"
        )

    def wrapped(layer: Any) -> Any:
        if not chosen.get(layer.name):
            return layer
        return prune.prune_low_magnitude(
            layer,
            _Decay(config, chosen[layer.name]),
            block_size=tuple(config.block_size),
            block_pooling_type=config.block_pooling,
            sparsity_m_by_n=tuple(config.m_by_n) or None,
        )

    return tf_keras.models.clone_model(model, clone_function=wrapped)


def _prunable(layer: Any) -> bool:
    registry = prune_registry.PruneRegistry
    return type(layer) in registry._LAYERS_WEIGHTS_MAP and bool(registry._weight_names(layer))


def _matching(option: str, patterns: Mapping[str, Any], kernels: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return by_pattern(patterns, list(kernels), list(kernels))
    except CompressionError as error:
        raise CompressionError(f"{option}: of the layers with a kernel, {error}") from error


class _Decay(pruning_schedule.PolynomialDecay):  # type: ignore[misc]
    """tfmot's schedule over a share of a training whose length is not known before it begins."""

    def __init__(self, config: MagnitudeConfig, ratio: float) -> None:
        # tfmot counts steps from 1, and skips an end that is not a whole number of frequencies after the begin.
        super().__init__(min(config.initial, ratio), ratio, begin_step=1, end_step=2, power=config.power, frequency=1)
        self._config = config

    def span(self, steps: int) -> None:
        """Sets the length of the training; before its first step, in which tfmot reads it."""
        last = max(1, round(self._config.end * steps) - 1)
        self.frequency = min(self._config.frequency, last)
        self.end_step = self.begin_step + last - last % self.frequency


class _Steps(callbacks.UpdatePruningStep):  # type: ignore[misc]
    """tfmot's callback, which also tells the schedules how long the training is."""

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        steps = max(1, round(self.params["epochs"] * self.params["steps"]))
        for layer in self.prunable_layers:
            layer.pruning_schedule.span(steps)


class _Summaries(tf_keras.callbacks.Callback):  # type: ignore[misc]
    """What tfmot's `PruningSummaries` shows, at the end of the training too, and the same of all layers side by side.

    tfmot makes a section of each layer, ends with the begin of the last epoch, and adds an empty run, `train`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._write()

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        self._write()
        self._writer.close()

    def _write(self) -> None:
        with self._writer.as_default(step=int(self.model.optimizer.iterations)):
            for layer in pruning_wrapper.collect_prunable_layers(self.model):
                for weight, mask, threshold in layer.pruning_vars:
                    name = f"{layer.layer.name}/{weight.name.rpartition('/')[2].partition(':')[0]}"
                    tf.summary.scalar(f"sparsity/{name}", 1 - np.mean(mask))
                    tf.summary.scalar(f"threshold/{name}", threshold)
        self._writer.flush()


def pruning_callbacks(folder: Path | str | None = None) -> list[Any]:
    """The callbacks that a training needs of a model from `sparsity_aware`.

    Args:
        folder: Of events for TensorBoard: sparsity and threshold of each kernel at the begin of every epoch and at the
            end, in `sparsity/` below, since TensorBoard follows one file of a folder while it is written.
    """
    return [_Steps(), *([] if folder is None else [_Summaries(Path(folder) / "sparsity")])]


def strip(model: tf_keras.Model) -> tf_keras.Model:
    """The model without tfmot's wrappers; what is to be zero is zero in it, also after an average of weights."""
    for layer in pruning_wrapper.collect_prunable_layers(model):
        layer.pruning_obj.weight_mask_op()
    return prune.strip_pruning(model)


def zeros(model: Any) -> dict[str, tuple[int, int]]:
    """How many weights of each kernel are zero, and how many there are, by the layer's name.

    Args:
        model: of tf_keras or Keras 3; kernels are weights of two axes or more.
    """
    found = {}
    for layer in model.layers:
        values = [np.asarray(each) for each in layer.weights]
        kernels = [each for each in values if each.ndim > 1]
        if kernels:
            found[layer.name] = (sum(int((each == 0).sum()) for each in kernels), sum(each.size for each in kernels))
    return found
