"""The loss of a classifier, a plain function `(y_true, y_pred) -> (N,)`."""

from __future__ import annotations

from typing import Any

from keras import ops

from slimcam.training.fit.fit import Loss
from slimcam.training.tasks.classification.config import ClassifierLossConfig


def classes(config: ClassifierLossConfig) -> Loss:
    """Cross-entropy with smoothed labels, and the distillation of logits.

    `y_pred` are logits, `(N, C)`. `y_true` are labels, `(N, 1)`, and behind them, where there is distillation, the
    logits of the model to imitate: `(N, 1 + C)`.

    Distillation is the Kullback-Leibler divergence of both softmaxes at the temperature, times its square (Hinton et
    al. 2015, section 2.1).
    """

    def loss(y_true: Any, y_pred: Any) -> Any:
        logits, truth = ops.cast(y_pred, "float32"), ops.cast(y_true, "float32")
        count = ops.shape(logits)[-1]
        label = ops.one_hot(ops.cast(truth[:, 0], "int32"), count, dtype="float32")
        wanted = (1.0 - config.label_smoothing) * label + config.label_smoothing / ops.cast(count, "float32")
        total = -config.classification_weight * ops.sum(wanted * ops.log_softmax(logits, axis=-1), axis=-1)
        if config.distillation_weight > 0:
            taught = ops.log_softmax(truth[:, 1:] / config.temperature, axis=-1)
            found = ops.log_softmax(logits / config.temperature, axis=-1)
            divergence = ops.sum(ops.exp(taught) * (taught - found), axis=-1)
            total = total + config.distillation_weight * config.temperature**2 * divergence
        return total

    return loss
