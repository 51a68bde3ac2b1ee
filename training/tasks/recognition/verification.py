"""How well embeddings tell whether two faces show the same person. Scores are cosines; higher means more alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.vectors import unit_length
from slimcam.training.data.recognition.faces import Pairs

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

# A rate is reported only where this many impostor pairs are expected above its threshold.
SUPPORT = 10


@dataclass(frozen=True)
class Accuracy:
    """LFW-style accuracy by cross-validation.

    Attributes:
        mean: Share of pairs decided right, each with the threshold chosen on the other folds.
        deviation: Standard deviation over folds.
        correct: `(P,)` bool, whether each pair was decided right.
    """

    mean: float
    deviation: float
    correct: Bool


def pair_scores(embeddings: Float, pairs: Pairs) -> Float:
    """Cosine of each pair, `(P,)`, from `(N, E)` embeddings."""
    unit = unit_length(embeddings)
    scores: Float = np.einsum("pe,pe->p", unit[pairs.left], unit[pairs.right])
    return scores


def fold_accuracy(scores: Float, pairs: Pairs) -> Accuracy:
    """Accuracy by cross-validation over the protocol's folds (Huang et al. 2007, section 4)."""
    correct = np.empty(len(pairs), dtype=bool)
    for fold in np.unique(pairs.fold):
        held = pairs.fold == fold
        threshold = best_threshold(scores[~held], pairs.same[~held])
        correct[held] = (scores[held] >= threshold) == pairs.same[held]
    folds = [correct[pairs.fold == fold].mean() for fold in np.unique(pairs.fold)]
    return Accuracy(float(correct.mean()), float(np.std(folds)), correct)


def best_threshold(scores: Float, same: Bool) -> float:
    """The threshold with the most pairs decided right, midway between the two scores that it separates."""
    order = np.argsort(scores, kind="stable")
    ascending, genuine = scores[order], same[order]
    # right[k]: pairs decided right when the k lowest scores are called impostors.
    right = np.concatenate([[0], np.cumsum(~genuine)]) + np.concatenate([np.cumsum(genuine[::-1])[::-1], [0]])
    # Equal scores cannot be told apart: only between two different ones is there a threshold.
    right[1:-1][ascending[1:] == ascending[:-1]] = -1
    k = int(np.argmax(right))
    below = ascending[k - 1] if k > 0 else ascending[0] - 1e-3
    above = ascending[k] if k < len(ascending) else ascending[-1] + 1e-3
    return float((below + above) / 2)


def impostor_scores(embeddings: Float, labels: NDArray[np.int32]) -> Float:
    """Cosines of all pairs of images that show different people, ascending."""
    unit = unit_length(embeddings)
    parts = []
    for i in range(len(unit) - 1):
        others = np.flatnonzero(labels[i + 1 :] != labels[i]) + i + 1
        parts.append(unit[others] @ unit[i])
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.float32)


def threshold_at_far(impostors: Float, far: float) -> float | None:
    """The lowest threshold at which no more than a share `far` of the impostor pairs (ascending) is accepted.

    `None` where the impostor pairs are too few to support the rate.
    """
    if len(impostors) * far < SUPPORT:
        return None
    accepted = int(len(impostors) * far)
    return float(np.nextafter(impostors[len(impostors) - accepted - 1], np.float32(np.inf)))


def tar_at_far(genuine: Float, impostors: Float, far: float) -> float | None:
    """Share of genuine pairs accepted at the threshold of a false-accept rate; `None` where it is not supported."""
    threshold = threshold_at_far(impostors, far)
    return None if threshold is None else float(np.mean(genuine >= threshold))


def roc(genuine: Float, impostors: Float) -> tuple[Float, Float]:
    """False-accept and true-accept rates at falling thresholds, for a plot."""
    thresholds = np.quantile(impostors, 1 - np.logspace(-np.log10(max(len(impostors), 10)), 0, 200))
    ascending = np.sort(genuine)
    accepted = 1 - np.searchsorted(ascending, thresholds, side="left") / len(genuine)
    false = 1 - np.searchsorted(impostors, thresholds, side="left") / len(impostors)
    return false.astype(np.float32), accepted.astype(np.float32)
