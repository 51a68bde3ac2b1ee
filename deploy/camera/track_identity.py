"""Which views of a face are worth an embedding, and what a track's views say of who it is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.common.vectors import unit_length
from deploy.types import EventKind, Identity

Embedding = NDArray[np.float32]


class Matcher(Protocol):
    """Knows people by their embeddings; see `deploy.gallery.match`."""

    def match(self, embedding: Embedding) -> Identity:
        """Who the owner of an embedding `(E,)`, L2-normalised, is."""
        ...


@dataclass
class RecognizeConfig:
    """How often faces are looked at, and when what is seen is believed.

    Attributes:
        budget: embeddings in a frame, at the most: what bounds the time of a frame however many faces are in it.
        votes: views of a face, the best ones, that its identity follows from.
        agree: looks in a row that must give the same answer before it is told, or told anew.
        spacing: seconds between two looks at a face: two frames one after the other are almost the same view.
        again: seconds after which a face that is settled is looked at again; it doubles with each time that nothing
            has changed, up to `rest`.
        better: how many times the quality of the best view so far makes a view worth a look before that.
        exchanged: cosine with the mean of the track's views below which a view is thought to be of another person.
            Two such views in a row, and the track begins anew.
    """

    budget: int = 1
    votes: int = 5
    agree: int = 2
    spacing: float = 0.15
    again: float = 1.0
    rest: float = 8.0
    better: float = 1.25
    exchanged: float = 0.3

    def __post_init__(self) -> None:
        for name in ("budget", "votes", "agree"):
            if getattr(self, name) < 1:
                raise ValueError(f"recognize.{name} must be 1 or more; got {getattr(self, name)}")
        if not 0 <= self.spacing <= self.again <= self.rest < math.inf:
            raise ValueError(
                "recognize.spacing, again and rest are seconds, 0 or more and none less than the one before; "
                f"got {self.spacing}, {self.again} and {self.rest}"
            )
        if not 1 <= self.better < math.inf:
            raise ValueError(f"recognize.better must be 1 or more; got {self.better}")
        if not -1 <= self.exchanged <= 1:
            raise ValueError(f"recognize.exchanged is a cosine, -1 to 1; got {self.exchanged}")


@dataclass(frozen=True)
class Candidate:
    """A fit view of a face that might be looked at.

    Attributes:
        track: its number.
        quality: of the view.
        best: quality of the best view that was looked at; `None` if none was.
        since: seconds since the last look.
        wait: seconds that should lie between them if the view is not much better.
    """

    track: int
    quality: float
    best: float | None = None
    since: float = math.inf
    wait: float = 0.0


def choose(candidates: Iterable[Candidate], config: RecognizeConfig) -> list[int]:
    """The tracks whose faces are looked at in this frame.

    First those that never were, the best view first; then those that are seen better than ever, then those whose time
    has come; both begin with the one that was not looked at for longest.

    Returns:
        Up to `budget` numbers.
    """
    ranked = []
    for one in candidates:
        if one.best is None:
            ranked.append((0, -one.quality, one.track))
        elif one.since >= config.spacing and one.quality >= config.better * one.best:
            ranked.append((1, -one.since, one.track))
        elif one.since >= one.wait:
            ranked.append((2, -one.since, one.track))
    return [track for _, _, track in sorted(ranked)[: config.budget]]


@dataclass(frozen=True)
class Look:
    """A view that was embedded: `(E,)`, and how good it was."""

    embedding: Embedding
    quality: float


@dataclass
class Votes:
    """What is known of who a track is.

    The views vote by their mean, weighted by quality, and not one by one: views err in different directions, so the
    mean is nearer to the person than most of them. Five photos of each of 93 people of LFW against one other photo of
    each, at the committed recognizer's threshold for one false match in 1,000: 22 % found by one photo, 15 % by the
    majority of five, 46 % by their mean, with as many false matches as by one.

    Attributes:
        looks: the best ones, best first.
        odd: those that do not fit the others and may be of another person.
        looked: seconds of the last look; `wait`: until the next.
        flaws: of the view that was measured last, and when that was: `measured`, seconds.
        told: the answer that was told last, `None` if none was, and whether it is `settled`, as long as the face is not
            thought to be another one.
        heard: the last answer, and how many `times` in a row it was the same.
    """

    config: RecognizeConfig
    looks: list[Look] = field(default_factory=list)
    odd: list[Look] = field(default_factory=list)
    looked: float = -math.inf
    wait: float = 0.0
    quality_issues: tuple[str, ...] = ()
    measured: float = -math.inf
    told: Identity | None = None
    settled: bool = False
    heard: Identity | None = None
    times: int = 0

    @property
    def identity(self) -> Identity | None:
        return self.told if self.settled else self.heard

    def candidate(self, track: int, quality: float, seconds: float) -> Candidate:
        """For a view of this quality."""
        best = self.looks[0].quality if self.looks else None
        return Candidate(track, quality, best, seconds - self.looked, self.wait)

    @property
    def mean(self) -> Embedding:
        """`(E,)`, L2-normalised; there must be a look."""
        total = np.sum([look.quality * look.embedding for look in self.looks], axis=0)
        mean: Embedding = unit_length(total).astype(np.float32)
        return mean

    def add(self, look: Look, seconds: float) -> bool:
        """Takes in a view; whether it counts, so that `answer` should have what the mean is like."""
        self.looked = seconds
        if self.looks and float(look.embedding @ self.mean) < self.config.exchanged:
            self.odd.append(look)
            if len(self.odd) < 2:
                self.wait = self.config.spacing
                return False
            self.looks, self.settled, self.heard, self.times = self.odd, False, None, 0
        else:
            self.looks.append(look)
        self.odd = []
        self.looks.sort(key=lambda one: one.quality, reverse=True)
        del self.looks[self.config.votes :]
        return True

    def answer(self, identity: Identity) -> EventKind | None:
        """Takes in who the mean is like after a look, and says what there is to tell."""
        config = self.config
        same = self.heard is not None and self.heard.person == identity.person
        self.heard, self.times = identity, self.times + 1 if same else 1
        if self.settled and self.told is not None and self.told.person == identity.person:
            self.told, self.wait = identity, min(max(2 * self.wait, config.again), config.rest)
            return None
        # A name is believed sooner than that there is none: strangers are told of once all views are in.
        if self.times < config.agree or not (identity.known or len(self.looks) == config.votes):
            self.wait = config.spacing
            return None
        return self._tell(identity)

    def rematch(self, matcher: Matcher | None) -> EventKind | None:
        """Asks another gallery, which is believed at once where the answer was settled."""
        self.heard, self.times = None, 0
        if matcher is None or not self.looks:
            self.told, self.settled = None, False
            return None
        self.heard, self.times = matcher.match(self.mean), 1
        return self._tell(self.heard) if self.settled else None

    def forget_looks(self) -> None:
        """Begins anew with looks of another recognizer; what was told stands until they say otherwise."""
        self.looks, self.odd, self.heard, self.times, self.wait = [], [], None, 0, 0.0

    def _tell(self, identity: Identity) -> EventKind | None:
        before, self.told, self.settled, self.wait = self.told, identity, True, self.config.again
        if before is not None and before.person == identity.person:
            return None
        return "recognised" if identity.known else "unknown"
