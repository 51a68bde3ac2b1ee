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
    cells; where only the box of a face is known, of its size and the middle of its points. Imitation: the same scores
    and points as the model's, wherever it sees a face. All are sums over cells, divided by the positive cells of a mean
    image.
    """

    def loss(y_true: Any, y_pred: Any) -> Any:
        y_pred = ops.cast(y_pred, "float32")
        y_true = ops.cast(y_true, "float32")
        flag = y_true[..., CHANNELS]
        positive = ops.cast(flag > 0.5, "float32")
        counted = ops.cast(flag > -0.5, "float32")
        count = ops.maximum(ops.mean(ops.sum(positive, axis=1)), 1.0)
        share = ops.sigmoid(y_pred[..., 0])
        wrong = positive * (1.0 - share) + (1.0 - positive) * share
        weight = positive * 0.25 + (1.0 - positive) * 0.75
        entropy = ops.softplus(y_pred[..., 0]) - positive * y_pred[..., 0]
        total = ops.sum(counted * weight * ops.square(wrong) * entropy, axis=1)
        boxed = ops.cast(flag > 1.5, "float32")
        true_points, points = y_true[..., 1:CHANNELS], y_pred[..., 1:]
        off = (positive - boxed) * _huber(true_points, points) + boxed * _huber(_box(true_points), _box(points))
        total += config.points_weight * ops.sum(off, axis=1)
        if config.distillation_weight > 0:
            taught = y_true[..., CHANNELS + 1 :]
            sure = ops.sigmoid(taught[..., 0])
            scores = ops.square(share - sure)
            imitated = sure * _huber(taught[..., 1:], y_pred[..., 1:])
            total += config.distillation_weight * ops.sum(scores + config.points_weight * imitated, axis=1)
        return total / count

    return loss


def _box(rows: Any) -> Any:
    """`(..., 3)`: size, and x and y of the middle of the points, of size and points `(..., 11)`."""
    x, y = (ops.mean(rows[..., start::2], axis=-1, keepdims=True) for start in (1, 2))
    return ops.concatenate([rows[..., :1], x, y], axis=-1)


def _huber(truth: Any, found: Any) -> Any:
    """Huber's loss, mean over the last axis: the distance but for the last tenth, which is 1 % of a face's size.

    Squares further out would leave the points of most faces as good as ignored: they are soon within a few percent.
    """
    error = ops.abs(truth - found)
    near = 0.1
    return ops.mean(ops.where(error < near, 0.5 * ops.square(error) / near, error - 0.5 * near), axis=-1)
