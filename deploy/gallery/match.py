"""Who a face is: exact search of its embedding among the templates of a gallery.

python -m slimcam.deploy.gallery.match        prints the time of a search among 100,000 templates, on one thread
"""

from __future__ import annotations

import math
import os
import sys
import time

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.console import show
from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.gallery.people import Person, Snapshot
from slimcam.deploy.inference.bundle import Bundle
from slimcam.deploy.types import Identity


class Matcher:
    """Compares faces with the people of a gallery.

    The score of a person is that of the best of their templates. Templates show a person from several sides and in
    several lights; a face is like one of these views, not like their mean. The thresholds of a bundle are measured the
    same way, on pairs of single pictures. Each person more is another chance for a false match: a gallery of N people
    has an FPIR (false positive identification rate) of about N times the FAR of one pair; choose the rate of
    `threshold` with that in mind.

    Args:
        snapshot: Snapshot of the gallery.
        threshold: Least cosine at which a face is somebody's.
        margin: Least difference of the scores of the best person and the next; a face that fits two people is unknown.

    Raises:
        ValueError: threshold or margin are out of range.
    """

    def __init__(self, snapshot: Snapshot, threshold: float, margin: float = 0.0) -> None:
        if not -1 <= threshold <= 1 or not 0 <= margin <= 2:
            raise ValueError(f"a threshold is in -1..1, a margin in 0..2; got {threshold} and {margin}")
        self.snapshot, self.threshold, self.margin = snapshot, threshold, margin
        # A person's templates lie together, so that those of all others are two slices.
        embeddings, owners = snapshot.embeddings, snapshot.owners
        if (np.diff(owners) < 0).any():
            order = np.argsort(owners, kind="stable")
            embeddings, owners = embeddings[order], owners[order]
        self._embeddings, self._owners = np.ascontiguousarray(embeddings), owners

    def match(self, embedding: NDArray[np.float32]) -> Identity:
        """Who the face of an embedding is.

        Args:
            embedding: `(E,)` float32, L2-normalized.

        Returns:
            The person, or an unknown one, with the score and the margin in either case.

        Raises:
            ValueError: the embedding is of another size, or not finite.
        """
        size = self._embeddings.shape[1]
        if embedding.shape != (size,) or not np.isfinite(embedding).all():
            raise ValueError(f"an embedding to match must be {size} finite numbers; got {embedding.shape}")
        if not len(self._embeddings):
            return Identity(None, None, -1.0, 0.0)
        scores = self._embeddings @ embedding
        best = int(scores.argmax())
        owner = self._owners[best]
        start, stop = np.searchsorted(self._owners, (owner, owner + 1))
        others = max(scores[:start].max(initial=-1.0), scores[stop:].max(initial=-1.0))
        score, margin = float(scores[best]), float(scores[best] - others)
        if score < self.threshold or margin < self.margin:
            return Identity(None, None, score, margin)
        person: Person = self.snapshot.people[owner]
        return Identity(person.id, person.name, score, margin)


_SUPPORT = 10
"""Impostor pairs beyond a threshold that an evaluation asks for."""


def threshold(bundle: Bundle, far: float) -> float:
    """The least cosine at which a recognizer takes two faces for one person's, at a false accept rate (FAR).

    Args:
        far: False accept rate (FAR, ISO's FMR) of one comparison, one of those that the bundle was measured at.

    Raises:
        ValueError: it was not measured at this rate.
    """
    for rate, score in bundle.thresholds.items():
        if float(rate) == far:
            return score
    if not bundle.thresholds:
        raise ValueError(
            f"bundle {bundle.path} has no thresholds: it was not evaluated; take that of the stage evaluate"
        )
    needed = math.ceil(_SUPPORT / far) if far > 0 else math.inf
    raise ValueError(
        f"bundle {bundle.path} has no threshold for a false accept rate of {far:g}, only for far="
        f"{', '.join(bundle.thresholds)}: give one of these. Its evaluation was not asked for that rate "
        f"(evaluate.rates), or had fewer than the {needed:,} impostor pairs that it rests on"
    )


def _measure(templates: int = 100_000, size: int = 128, searches: int = 200) -> str:
    rng = np.random.default_rng(0)
    embeddings = unit_length(rng.standard_normal((templates, size), np.float32))
    owners = np.arange(templates) // 4
    people = tuple(Person(f"{i:032x}", f"person {i}", 4, 0.0, None, "rendered") for i in range(int(owners[-1]) + 1))
    matcher = Matcher(Snapshot(1, people, embeddings, owners), 0.5)
    took = []
    for probe in rng.choice(templates, searches):
        start = time.perf_counter()
        identity = matcher.match(embeddings[probe])
        took.append(1000 * (time.perf_counter() - start))
        if identity.person != people[owners[probe]].id:
            raise RuntimeError(f"template {probe} was not found as its own person's")
    p50, p90, p99 = np.percentile(took, (50, 90, 99))
    return f"{templates:,} templates of {size}, {searches} searches: p50 {p50:.2f} ms, p90 {p90:.2f}, p99 {p99:.2f}"


if __name__ == "__main__":
    # Libraries of linear algebra read it when they are loaded.
    single = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if os.environ.items() >= single.items():
        show(_measure())
    else:
        os.execve(sys.executable, [sys.executable, "-m", "slimcam.deploy.gallery.match"], {**os.environ, **single})
