"""How well embeddings tell whether two faces show the same person. Scores are cosines; higher means more alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.vectors import unit_length
from slimcam.training.data.recognition.faces import Pairs, Verification

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
    parts = [scores for _, _, scores in _impostors(embeddings, labels)]
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.float32)


def _impostors(embeddings: Float, labels: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.int64], Float]]:
    """Each image, the later images that show others, and the cosines of these pairs."""
    unit = unit_length(embeddings)
    for i in range(len(unit) - 1):
        others = np.flatnonzero(labels[i + 1 :] != labels[i]) + i + 1
        yield i, others, unit[others] @ unit[i]


@dataclass(frozen=True)
class Comparisons:
    """Scores of genuine and impostor pairs, and whom they are of.

    Attributes:
        genuine: `(G,)`, cosines of the genuine pairs of the protocol.
        genuine_people: `(G,)`, the person of each, from 0 on.
        impostors: `(I,)`, cosines of impostor pairs, ascending.
        impostor_people: `(2, I)`, both people of each.
        images: `(P,)`, number of images of each person; `None` where nobody is named, and each pair stands for itself.
    """

    genuine: Float
    genuine_people: NDArray[np.int32]
    impostors: Float
    impostor_people: NDArray[np.int32]
    images: NDArray[np.int64] | None


def comparisons(embeddings: Float, faces: Verification) -> Comparisons:
    """The genuine pairs of the protocol, and as impostors all pairs of images that show different people.

    Where the faces have no names, as in verification packs, impostors are those of the protocol.
    """
    scores, same = pair_scores(embeddings, faces.pairs), faces.pairs.same
    if faces.faces.unlabeled:
        order = np.argsort(scores[~same], kind="stable")
        pair = np.arange(len(scores), dtype=np.int32)
        people = np.stack([pair[~same][order], np.full(len(order), len(scores), np.int32)])
        return Comparisons(scores[same], pair[same], scores[~same][order], people, None)
    _, people, counts = np.unique(faces.faces.labels, return_inverse=True, return_counts=True)
    people = people.astype(np.int32)
    left, right, found = [], [], []
    for image, others, cosines in _impostors(embeddings, people):
        left.append(np.full(len(others), people[image]))
        right.append(people[others])
        found.append(cosines)
    impostors = np.concatenate(found)
    order = np.argsort(impostors, kind="stable")
    both = np.stack([np.concatenate(left)[order], np.concatenate(right)[order]])
    return Comparisons(scores[same], people[faces.pairs.left[same]], impostors[order], both, counts)


def impostors_of(embeddings: Float, faces: Verification) -> Float:
    """The impostors of `comparisons` alone, ascending."""
    if not faces.faces.unlabeled:
        return impostor_scores(embeddings, faces.faces.labels)
    return np.sort(pair_scores(embeddings, faces.pairs)[~faces.pairs.same])


def equal_error_rate(genuine: Float, impostors: Float) -> float:
    """The error rate at the threshold where the false-accept rate equals the false-reject rate.

    It is interpolated between the two thresholds around that point. `impostors` are ascending.
    """
    ascending = np.sort(genuine)
    thresholds = np.unique(np.concatenate([ascending, np.quantile(impostors, np.linspace(0, 1, 10_001))]))
    rejected = np.searchsorted(ascending, thresholds, side="left") / len(ascending)
    accepted = 1 - np.searchsorted(impostors, thresholds, side="left") / len(impostors)
    gap = rejected - accepted
    above = int(np.argmax(gap >= 0)) if gap[-1] >= 0 else len(gap) - 1
    if above == 0 or gap[above] < 0:
        return float((rejected[above] + accepted[above]) / 2)
    share = -gap[above - 1] / (gap[above] - gap[above - 1])
    return float(rejected[above - 1] + share * (rejected[above] - rejected[above - 1]))


def tar_intervals(
    found: Comparisons, fars: Sequence[float], *, samples: int = 300, confidence: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the true-accept rates, by resampling people (the subsets bootstrap, Bolle et al. 2004).

    Scores of one person depend on each other, so that people are drawn with replacement and not pairs, and the
    threshold is found again in each draw. Rates that the impostor pairs do not support are absent.
    """
    fars = [far for far in fars if threshold_at_far(found.impostors, far) is not None]
    if not fars:
        return {}
    # Of the impostors only the most alike decide on thresholds: three times as many as the largest rate accepts.
    tail = min(len(found.impostors), int(3 * max(fars) * len(found.impostors)))
    scores, (first, second) = found.impostors[::-1][:tail], found.impostor_people[:, ::-1][:, :tail]
    order = np.argsort(-found.genuine, kind="stable")
    genuine, people = found.genuine[order], found.genuine_people[order]
    count = len(found.images) if found.images is not None else int(found.impostor_people.max()) + 1
    rng = np.random.default_rng(seed)
    drawn: list[list[float]] = []
    for _ in range(samples):
        weights = np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float32)
        if found.images is None:
            weights[-1] = 1.0  # No person: each pair has a weight of its own.
            total = float(weights[found.impostor_people[0]].sum())
        else:
            images = weights * found.images
            total = float(images.sum() ** 2 - np.square(images).sum()) / 2
        accepted = np.cumsum(weights[first] * weights[second], dtype=np.float64)
        right = np.cumsum(weights[people], dtype=np.float64)
        if not (total and right[-1]):
            continue
        least = scores[np.minimum(np.searchsorted(accepted, np.array(fars) * total, side="right"), tail - 1)]
        passed = np.searchsorted(-genuine, -least, side="left")
        drawn.append([right[number - 1] / right[-1] if number else 0.0 for number in passed])
    edge = (1 - confidence) / 2
    low, high = np.quantile(drawn, [edge, 1 - edge], axis=0)
    return {str(far): (float(a), float(b)) for far, a, b in zip(fars, low, high, strict=True)}


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
