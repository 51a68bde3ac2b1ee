"""Losses: plain functions `(y_true, y_pred) -> (N,)`.

Written with `keras.ops`, so that they serve Keras 3 on any backend and tf_keras.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from slimcam.training.tasks.recognition.config import Classification, LossConfig

Loss = Callable[[Any, Any], Any]

# Of AdaFace: how far from its ends an angle stays, and the share of the images (68 %) whose quality is not clipped.
_ANGLE = 1e-3
_CONCENTRATION = 0.333


def classification(config: LossConfig) -> Loss:
    """Softmax cross-entropy over scaled cosines, with the configured margin on the true identity.

    `y_true` are identity labels, `(N,)` or `(N, 1)`; `y_pred` are cosines, `(N, identities)`, for AdaFace followed by
    the norm of the embedding, `(N, identities + 1)`. The loss of an unlabeled face, label -1, is 0.

    CosFace subtracts the margin from the true cosine (Wang et al. 2018, eq. 4); ArcFace adds it to the true angle
    (Deng et al. 2019, eq. 3) and, where the angle would pass pi, goes on with a line so that the loss stays monotonic.
    AdaFace does both by the quality of the image, which its embedding's norm tells (Kim et al. 2022, eq. 13 to 15).
    """
    margin, scale = config.margin, config.scale

    def loss(y_true: Any, y_pred: Any) -> Any:
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        cosines = ops.clip(y_pred[:, :-1] if config.norms else y_pred, -1.0, 1.0)
        truth = ops.one_hot(labels, ops.shape(cosines)[-1], dtype=cosines.dtype)
        if config.classification == Classification.COSFACE:
            cosines = cosines - margin * truth
        elif config.classification == Classification.ARCFACE:
            cosines = ops.where(truth > 0, _arcface(cosines, margin), cosines)
        elif config.classification == Classification.ADAFACE:
            cosines = ops.where(truth > 0, _adaface(cosines, _quality(y_pred[:, -1:]), margin), cosines)
        return -ops.sum(truth * ops.log_softmax(scale * cosines, axis=-1), axis=-1)

    return loss


def distillation(y_true: Any, y_pred: Any) -> Any:
    """One minus the cosine between the teacher's embedding and ours; both `(N, E)`; neither need be normalized."""
    return 1.0 - ops.sum(_unit(ops.cast(y_true, y_pred.dtype)) * _unit(y_pred), axis=-1)


def embedding_loss(config: LossConfig, centers: Any = None) -> Loss:
    """The whole loss of embeddings, `(N, E)`, but for feature maps, without a classifier in the model.

    `y_true` is a pair: identity labels, `(N,)`, and the teacher's embeddings, `(N, E)`, or None.

    Args:
        config: Weights of the parts.
        centers: `(E, subcenters * identities)` learned centers, the first of all identities before the second; None
            leaves out what classifies.
    """
    classify = classification(config) if config.classifies and centers is not None else None

    def loss(y_true: Any, y_pred: Any) -> Any:
        labels, embeddings = y_true
        total = ops.zeros_like(y_pred[:, 0])
        if classify is not None:
            total += config.classification_weight * classify(labels, _cosines(config, y_pred, centers))
        if config.distillation_weight > 0:
            total += config.distillation_weight * distillation(embeddings, y_pred)
        return total

    return loss


def _cosines(config: LossConfig, embeddings: Any, centers: Any) -> Any:
    """What the classifier of `slimcam.training.tasks.recognition.model.with_classifier` gives."""
    found = ops.matmul(_unit(embeddings), centers)
    identities = centers.shape[1] // config.subcenters
    found = ops.max(ops.reshape(found, (-1, config.subcenters, identities)), axis=1)
    if not config.norms:
        return found
    return ops.concatenate([found, ops.norm(embeddings, axis=-1, keepdims=True)], axis=-1)


def features(y_true: Any, y_pred: Any) -> Any:
    """The mean squared error of a feature map against the teacher's, `(N, h, w, C)`.

    The teacher's is brought to the other's height and width, and each of its channels to mean 0 and deviation 1 over
    the batch, so that none counts for more than another.
    """
    y_pred = ops.cast(y_pred, "float32")
    height, width = ops.shape(y_pred)[1:3]
    truth = ops.cast(y_true, "float32")
    truth = ops.einsum("ih,nhwc->niwc", _resampling(ops.shape(truth)[1], height), truth)
    truth = ops.einsum("jw,niwc->nijc", _resampling(ops.shape(truth)[2], width), truth)
    mean, variance = ops.moments(truth, axes=(0, 1, 2), keepdims=True)
    truth = (truth - mean) * ops.rsqrt(variance + 1e-2)
    return ops.mean(ops.square(truth - y_pred), axis=(1, 2, 3))


def _resampling(size: Any, count: Any) -> Any:
    """The `(count, size)` matrix that resamples linearly, without aliasing; sizes that a graph leaves open will do."""
    step = ops.cast(size, "float32") / ops.cast(count, "float32")
    centers = (ops.arange(0, count, dtype="float32") + 0.5) * step - 0.5
    places = ops.arange(0, size, dtype="float32")
    weights = ops.relu(1.0 - ops.abs(centers[:, None] - places[None, :]) / ops.maximum(step, 1.0))
    return weights / ops.sum(weights, axis=1, keepdims=True)


def _arcface(cosine: Any, margin: float) -> Any:
    # The clip keeps the gradient of the square root finite where the angle is 0 or pi.
    sine = ops.sqrt(ops.clip(1.0 - ops.square(cosine), 1e-6, 1.0))
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    beyond = cosine - margin * math.sin(math.pi - margin)
    return ops.where(cosine > math.cos(math.pi - margin), shifted, beyond)


def _adaface(cosine: Any, quality: Any, margin: float) -> Any:
    """The margin on the angle is -1 to 1 times the quality, that on the cosine 0 to 2 times."""
    # As in the paper's code: the gradient of the angle is not finite at 0 and pi.
    angle = ops.arccos(ops.clip(cosine, -1.0 + _ANGLE, 1.0 - _ANGLE))
    moved = ops.clip(angle - margin * quality, _ANGLE, math.pi - _ANGLE)
    return ops.cos(moved) - margin * (1.0 + quality)


def _quality(norms: Any) -> Any:
    """The quality of images from the norms of their embeddings, `(N, 1)`: deviations from the mean, times 0.333.

    Mean and deviation are the batch's; nothing is learned by changing norms.
    """
    norms = ops.clip(ops.stop_gradient(norms), 1e-3, 100.0)
    count = ops.cast(ops.shape(norms)[0], norms.dtype)
    mean = ops.mean(norms)
    deviation = ops.sqrt(ops.sum(ops.square(norms - mean)) / ops.maximum(count - 1.0, 1.0))
    return ops.clip(_CONCENTRATION * (norms - mean) / (deviation + 1e-3), -1.0, 1.0)


def _unit(x: Any) -> Any:
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-12))
