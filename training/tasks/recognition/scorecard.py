"""The errors of one recognizer on one set of faces: verification, identification, groups of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.recognition.faces import Verification
from slimcam.training.tasks.recognition import verification
from slimcam.training.tasks.recognition.breakdown import Group, breakdown
from slimcam.training.tasks.recognition.identification import PHOTOS, Identification, identification
from slimcam.training.tasks.recognition.verification import Accuracy, Float

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
BINS = 100


@dataclass(frozen=True)
class Rate:
    """A true-accept rate, its 95 % interval and the threshold of its false-accept rate."""

    tar: float
    low: float
    high: float
    threshold: float


@dataclass(frozen=True)
class Scorecard:
    """A recognizer's errors.

    Attributes:
        accuracy: Accuracy over the protocol's folds.
        equal_error_rate: Rate at which both kinds of errors are equal.
        rates: True-accept rate at each false-accept rate; rates that the impostor pairs do not support are absent.
        impostors: Number of impostor pairs.
        roc: False-accept and true-accept rates at falling thresholds; a DET plot shows one minus the second.
        edges: `(BINS + 1,)`, edges of the bins of the histograms, cosines.
        genuine_histogram: `(BINS,)`, share of the genuine pairs in each bin.
        impostor_histogram: `(BINS,)`, share of the impostor pairs in each bin.
        identified: Identification with each of `PHOTOS` enrolled, where the people are enough.
        groups: Errors of groups of people, if attributes are known.
        groups_far: False-accept rate whose threshold the groups are compared at.
    """

    accuracy: Accuracy
    equal_error_rate: float
    rates: dict[str, Rate]
    impostors: int
    roc: tuple[Float, Float]
    edges: NDArray[np.float64]
    genuine_histogram: NDArray[np.float64]
    impostor_histogram: NDArray[np.float64]
    identified: list[Identification]
    groups: list[Group]
    groups_far: str


def scorecard(
    embeddings: Float,
    faces: Verification,
    fars: Sequence[float] = FARS,
    attributes: Mapping[str, NDArray[Any]] | None = None,
) -> Scorecard:
    """Evaluates embeddings, `(N, E)`, of the faces of a verification set.

    Args:
        fars: false-accept rates, and for identification false-positive identification rates.
        attributes: values of each attribute, as `slimcam.training.tasks.recognition.breakdown.values_of` gives them.
    """
    accuracy = verification.fold_accuracy(verification.pair_scores(embeddings, faces.pairs), faces.pairs)
    found = verification.comparisons(embeddings, faces)
    intervals = verification.tar_intervals(found, fars)
    rates = {}
    for far, (low, high) in intervals.items():
        threshold = verification.threshold_at_far(found.impostors, float(far))
        assert threshold is not None  # else it has no interval
        rates[far] = Rate(float(np.mean(found.genuine >= threshold)), low, high, threshold)
    lowest = float(min(found.genuine.min(), found.impostors[0]))
    highest = float(max(found.genuine.max(), found.impostors[-1]))
    edges = np.linspace(lowest, highest, BINS + 1, dtype=np.float64)
    genuine, impostors = (np.histogram(scores, edges)[0] / len(scores) for scores in (found.genuine, found.impostors))
    named = not faces.faces.unlabeled
    trials = [identification(embeddings, faces.faces.labels, photos, fars) for photos in PHOTOS] if named else []
    # At 0.1 % as NIST; where the faces are too few, at the lowest rate that they support.
    groups_far = min(rates, key=lambda far: abs(np.log(float(far) / 1e-3)), default="")
    groups = []
    if attributes and named and groups_far:
        groups = breakdown(embeddings, faces, accuracy.correct, rates[groups_far].threshold, attributes)
    return Scorecard(
        accuracy=accuracy,
        equal_error_rate=verification.equal_error_rate(found.genuine, found.impostors),
        rates=rates,
        impostors=len(found.impostors),
        roc=verification.roc(found.genuine, found.impostors),
        edges=edges,
        genuine_histogram=genuine,
        impostor_histogram=impostors,
        identified=[trial for trial in trials if trial is not None],
        groups=groups,
        groups_far=groups_far,
    )
