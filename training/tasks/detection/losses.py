"""The loss of a detector, a plain function `(y_true, y_pred) -> (N,)`."""

from __future__ import annotations

from typing import Any

from keras import ops

from slimcam.deploy.vision.detector_output import CHANNELS
from slimcam.training.fit.fit import Loss
from slimcam.training.tasks.detection.config import DetectorLossConfig


def detection(config: DetectorLossConfig) -> Loss:
    """Loss of a detector: whether a face is in a cell, and where its points are; for each image of a batch.

    `y_true` is `(N, R, 13)` as `slimcam.training.tasks.detection.targets.encode` makes it, and behind that, `(N, R,
    12)` more, the answer of a model to imitate if there is one; `y_pred` is `(N, R, 12)`.

    Scores: focal loss (Lin et al. 2017, "Focal loss", eq. 5, alpha 0.25, gamma 2). Points: Huber's loss in positive
    cells. Imitation: the same scores and points as the model's, wherever it sees a face. All are sums over cells,
    divided by the positive cells of a mean image.
    """

    def loss(y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.cast(y_pred, "float32")
        y_true = ops.cast(y_true, "float32")
        flag = y_true[..., CHANNELS]
        positive = ops.cast(flag > 0.5, "float32")
        judged = ops.cast(flag > -0.5, "float32")
        count = ops.maximum(ops.mean(ops.sum(positive, axis=1)), 1.0)
        share = ops.sigmoid(y_pred[..., 0])
        wrong = positive * (1.0 - share) + (1.0 - positive) * share
        weight = positive * 0.25 + (1.0 - positive) * 0.75
        entropy = ops.softplus(y_pred[..., 0]) - positive * y_pred[..., 0]
        total = ops.sum(judged * weight * ops.square(wrong) * entropy, axis=1)
        total += config.points_weight * ops.sum(positive * _huber(y_true[..., 1:CHANNELS], y_pred[..., 1:]), axis=1)
        if config.distillation_weight > 0:
            taught = y_true[..., CHANNELS + 1 :]
            sure = ops.sigmoid(taught[..., 0])
            scores = ops.square(share - sure)
            points = sure * _huber(taught[..., 1:], y_pred[..., 1:])
            total += config.distillation_weight * ops.sum(scores + config.points_weight * points, axis=1)
        return total / count

    return loss


def _huber(truth: Any, found: Any) -> Any:
    """Huber's loss, mean over the last axis: the distance but for the last tenth, which is 1 % of a face's size.

    Squares further out would leave the points of most faces as good as unjudged: they are soon within a few percent.
    """
    error = ops.abs(truth - found)
    near = 0.1
    return ops.mean(ops.where(error < near, 0.5 * ops.square(error) / near, error - 0.5 * near), axis=-1)
