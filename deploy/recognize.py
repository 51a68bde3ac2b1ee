"""From a frame to who is in it: detect, track, choose the views worth an embedding, and let a track's views vote."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.types import Event, EventKind, Frame, Identity, Sighting, View
from deploy.vision.align import align
from deploy.vision.detector import Detector
from deploy.vision.quality import Measures, QualityConfig, measure
from deploy.vision.shot_boundary import Cuts
from deploy.vision.track import Track, TrackConfig, Tracker

Embedding = NDArray[np.float32]


class Embedder(Protocol):
    """Turns aligned faces into embeddings; see `deploy.inference.model.Recognizer`."""

    def embed(self, images: NDArray[np.uint8]) -> Embedding:
        """`(N, E)` float32, L2-normalised, for `(N, 112, 112, 3)` uint8 RGB."""
        ...


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
    flaws: tuple[str, ...] = ()
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
        mean: Embedding = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
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

    def _tell(self, identity: Identity) -> EventKind | None:
        before, self.told, self.settled, self.wait = self.told, identity, True, self.config.again
        if before is not None and before.person == identity.person:
            return None
        return "recognised" if identity.known else "unknown"


@contextmanager
def timed(milliseconds: dict[str, float], stage: str) -> Iterator[None]:
    """Writes down what a stage takes."""
    start = time.perf_counter()
    yield
    milliseconds[stage] = 1000 * (time.perf_counter() - start)


class Recognition:
    """Sees faces in frames, one frame after the other, in one thread.

    Args:
        detector: finds them.
        recognizer: embeds them.
        matcher: knows people; `None` where nobody is to be known, and then nothing is embedded.
        config, quality, track: how.
        stopwatch: is entered around each stage; another one may count something else than time.
    """

    def __init__(
        self,
        detector: Detector,
        recognizer: Embedder,
        matcher: Matcher | None,
        config: RecognizeConfig,
        quality: QualityConfig,
        track: TrackConfig,
        stopwatch: Callable[[dict[str, float], str], AbstractContextManager[None]] = timed,
    ) -> None:
        self.detector, self.recognizer = detector, recognizer
        self.config, self.quality = config, quality
        self._timed = stopwatch
        self._tracker, self._cuts = Tracker(track), Cuts()
        self._votes: dict[int, Votes] = {}
        self._seen: set[int] = set()
        # The matcher that was given last, and the one in use: each has one writer, so that no lock is needed. They are
        # wrapped, for the same matcher may be given again after its gallery has changed.
        self._given = self._used = (matcher,)

    def use(self, matcher: Matcher | None) -> None:
        """Swaps the gallery, from any thread. The next frame matches all tracks anew by the views that they have."""
        self._given = (matcher,)

    def see(self, frame: Frame) -> View:
        """What is in a frame.

        Raises:
            ValueError: the frame is of another shape or type, or the matcher knows embeddings of another size.
        """
        milliseconds: dict[str, float] = {}
        given = self._given
        (matcher,) = given
        with self._timed(milliseconds, "detect"):
            faces = self.detector.detect(frame.image)
        with self._timed(milliseconds, "track"):
            tracks, ended = self._tracker.update(faces, frame.seconds, self._cuts.cut(frame.image))
            new = [track.number for track in tracks if track.number not in self._votes]
            self._votes.update((number, Votes(self.config)) for number in new)
            for track in tracks:
                # Who was hidden for a while, or crossed another, may come back as somebody else.
                if track.number not in self._seen:
                    self._votes[track.number].wait = self.config.spacing
            self._seen = {track.number for track in tracks}
        with self._timed(milliseconds, "align"):
            views = self._measured(frame, tracks, eager=matcher is not None)
            fit = [track for track in tracks if track.number in views and not self._votes[track.number].flaws]
            looked = [] if matcher is None else self._chosen(fit, views, frame.seconds)
            crops = [align(frame.image, track.points) for track in looked]
        embeddings: Iterable[Embedding] = ()
        if crops:
            with self._timed(milliseconds, "embed"):
                embeddings = self.recognizer.embed(np.stack(crops))
        told: list[tuple[EventKind | None, int]] = []
        if crops or given is not self._used:
            with self._timed(milliseconds, "match"):
                if given is not self._used:
                    told += [(votes.rematch(matcher), number) for number, votes in self._votes.items()]
                    self._used = given
                for track, embedding in zip(looked, embeddings, strict=True):
                    votes = self._votes[track.number]
                    counts = votes.add(Look(embedding, views[track.number].quality), frame.seconds)
                    if counts and matcher is not None:
                        told.append((votes.answer(matcher.match(votes.mean)), track.number))

        at = time.time()
        events = [Event("appeared", number, None, frame.seconds, at) for number in new]
        events += [
            Event(kind, number, self._votes[number].told, frame.seconds, at)
            for kind, number in told
            if kind is not None
        ]
        events += [
            Event("left", track.number, self._votes.pop(track.number).identity, frame.seconds, at) for track in ended
        ]
        sightings = tuple(
            Sighting(track.number, track.points, track.score, votes.flaws, votes.identity)
            for track in tracks
            for votes in [self._votes[track.number]]
        )
        milliseconds["result"] = 1000 * (time.monotonic() - frame.captured)
        return View(frame, sightings, tuple(events), milliseconds)

    def _measured(self, frame: Frame, tracks: list[Track], eager: bool) -> dict[int, Measures]:
        """How good this frame's views are, of those tracks that may be looked at: measuring takes longer than tracking.

        That is every `spacing`, and, if `eager`, in every frame for a face that is fit and waits for its first look.
        """
        views = {}
        for track in tracks:
            votes = self._votes[track.number]
            waits = eager and not votes.looks and not votes.flaws
            if waits or frame.seconds - votes.measured >= self.config.spacing:
                view = views[track.number] = measure(frame.image, track.points)
                votes.flaws, votes.measured = view.flaws(self.quality), frame.seconds
        return views

    def _chosen(self, fit: list[Track], views: dict[int, Measures], seconds: float) -> list[Track]:
        candidates = [
            self._votes[track.number].candidate(track.number, views[track.number].quality, seconds) for track in fit
        ]
        chosen = choose(candidates, self.config)
        return [track for track in fit if track.number in chosen]
