"""Which views of a face are worth an embedding, and what a track's views say of who it is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.types import EventKind, Identity

Embedding = NDArray[np.float32]


class IdentityMatcher(Protocol):
    """Knows people by their embeddings; see `slimcam.deploy.gallery.match`."""

    def match(self, embedding: Embedding) -> Identity:
        """Who the owner of an embedding `(E,)`, L2-normalized, is."""
        ...


@dataclass
class RecognizeConfig:
    """How often faces are looked at, and when an answer is believed. A look is one embedding of one view.

    Attributes:
        budget: Most embeddings in a frame, which bounds the time of a frame however many faces are in it.
        votes: Number of best views that are aggregated into the template of a track; of 1, the newest one.
        agree: Looks in a row that must give the same answer before it is reported, or another one after it.
        spacing: Seconds between two looks at a face; two frames in a row show almost the same view.
        again: Seconds until a confirmed face is looked at again. They double each time that the answer is the same.
        rest: Longest such time, seconds.
        better: Factor by which a view must be better than the best one so far to be looked at earlier.
        exchanged: Cosine with the track's template below which a view is an outlier, and perhaps of another person. As
            many outliers in a row as looks have to agree restart the identity of the track.
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
        track: Number of the track.
        quality: Quality of the view, 0..1.
        best: Quality of the best view that was looked at; `None` if none was.
        since: Seconds since the last look.
        wait: Seconds between two looks if the view is not much better.
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
class EmbeddedView:
    """A view of a face that was embedded.

    Attributes:
        embedding: `(E,)` float32, L2-normalized.
        quality: Quality of the view, 0..1.
        crop: Aligned face `(112, 112, 3)` uint8 RGB, where unknown faces are kept.
    """

    embedding: Embedding
    quality: float
    crop: NDArray[np.uint8] | None = None


class IdentityState(Enum):
    """How sure it is who a track is."""

    UNDECIDED = "undecided"
    """Nothing was reported yet."""
    CONFIRMED = "confirmed"
    """The reported answer holds."""
    CHALLENGED = "challenged"
    """An answer was reported, and since then the face was found to be another one."""


@dataclass
class TrackIdentity:
    """Who a track is, as far as its views tell.

    Templates are aggregated: the views answer by their mean, weighted by quality, and not one by one. Views err in
    different directions, so the mean is nearer to the person than most of them. Five photos of each of 93 people of LFW
    against one other photo of each, at the committed recognizer's threshold for one false match in 1,000: 22 % found by
    one photo, 15 % by the majority of five, 46 % by their mean, with as many false matches as by one.

    Attributes:
        views: Views that count, best first.
        outliers: Newest views, if they do not fit the others and may be of another person.
        last_look: Time of the last embedded view, seconds.
        wait: Seconds from the last look to the next.
        quality_issues: Quality issues of the view that was measured last.
        measured: Time of that view, seconds.
        state: Whether the reported answer holds.
        reported: Answer that was reported last; `None` if none was.
        latest: Answer to the last look; `None` if there was none.
        agreeing_looks: Number of looks in a row that gave the latest answer.
    """

    config: RecognizeConfig
    views: list[EmbeddedView] = field(default_factory=list)
    outliers: list[EmbeddedView] = field(default_factory=list)
    last_look: float = -math.inf
    wait: float = 0.0
    quality_issues: tuple[str, ...] = ()
    measured: float = -math.inf
    state: IdentityState = IdentityState.UNDECIDED
    reported: Identity | None = None
    latest: Identity | None = None
    agreeing_looks: int = 0

    @property
    def identity(self) -> Identity | None:
        """Who the track is taken for now."""
        return self.reported if self.state is IdentityState.CONFIRMED else self.latest

    def candidate(self, track: int, quality: float, seconds: float) -> Candidate:
        """A view of this quality as a candidate for a look."""
        best = self.views[0].quality if self.views else None
        return Candidate(track, quality, best, seconds - self.last_look, self.wait)

    @property
    def mean(self) -> Embedding:
        """Aggregated template `(E,)`, L2-normalized; there must be a view."""
        total = np.sum([view.quality * view.embedding for view in self.views], axis=0)
        return unit_length(np.asarray(total, np.float32))

    def add(self, view: EmbeddedView, seconds: float) -> bool:
        """Takes in a view.

        Returns:
            Whether it counts, so that `answer` should have what the mean is like.
        """
        self.last_look = seconds
        if self.views and float(view.embedding @ self.mean) < self.config.exchanged:
            self.outliers.append(view)
            if len(self.outliers) < self.config.agree:
                self.wait = self.config.spacing
                return False
            self.views, self.latest, self.agreeing_looks = self.outliers, None, 0
            if self.state is IdentityState.CONFIRMED:
                self.state = IdentityState.CHALLENGED
        else:
            self.views.append(view)
        self.outliers = []
        if self.config.votes == 1:
            # The best one may be of who was there before; the newest is of who is there.
            self.views = [view]
        self.views.sort(key=lambda one: one.quality, reverse=True)
        del self.views[self.config.votes :]
        return True

    def answer(self, identity: Identity) -> EventKind | None:
        """Takes in who the mean is like after a look.

        Returns:
            The event to report, if any.
        """
        config = self.config
        same = self.latest is not None and self.latest.person == identity.person
        self.latest, self.agreeing_looks = identity, self.agreeing_looks + 1 if same else 1
        confirmed = self.state is IdentityState.CONFIRMED
        if confirmed and self.reported is not None and self.reported.person == identity.person:
            self.reported, self.wait = identity, min(max(2 * self.wait, config.again), config.rest)
            return None
        # A name is believed sooner than that there is none: unknown faces are reported once all views are in.
        if self.agreeing_looks < config.agree or not (identity.known or len(self.views) == config.votes):
            self.wait = config.spacing
            return None
        return self._report(identity)

    def rematch(self, matcher: IdentityMatcher | None) -> EventKind | None:
        """Asks another gallery, which is believed at once where the answer was confirmed."""
        self.latest, self.agreeing_looks = None, 0
        if matcher is None or not self.views:
            self.reported, self.state = None, IdentityState.UNDECIDED
            return None
        self.latest, self.agreeing_looks = matcher.match(self.mean), 1
        return self._report(self.latest) if self.state is IdentityState.CONFIRMED else None

    def forget_looks(self) -> None:
        """Begins again with views of another recognizer; what was reported stands until they say otherwise."""
        self.views, self.outliers, self.latest, self.agreeing_looks, self.wait = [], [], None, 0, 0.0

    def _report(self, identity: Identity) -> EventKind | None:
        before, self.reported, self.state, self.wait = (
            self.reported,
            identity,
            IdentityState.CONFIRMED,
            self.config.again,
        )
        if before is not None and before.person == identity.person:
            return None
        return "recognised" if identity.known else "unknown"
