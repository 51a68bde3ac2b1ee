"""From a frame to who is in it: detect, track, choose the views worth an embedding, aggregate a track's templates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.camera.scene_rules import Interval, rules_for
from slimcam.deploy.camera.sources.source import SourceKind
from slimcam.deploy.camera.track_identity import (
    EmbeddedView,
    Embedding,
    IdentityMatcher,
    RecognizeConfig,
    TrackIdentity,
    choose,
)
from slimcam.deploy.types import Event, EventKind, Frame, Identity, Sighting, View
from slimcam.deploy.vision.align import align
from slimcam.deploy.vision.detector import FittingDetector
from slimcam.deploy.vision.detector_output import Faces
from slimcam.deploy.vision.far_faces import FarSearch, Reach
from slimcam.deploy.vision.quality import QualityConfig, ViewMeasures, measure_view
from slimcam.deploy.vision.shot_boundary import Cuts
from slimcam.deploy.vision.track import Track, TrackConfig, Tracker

NO_FACES = Faces(np.empty((0, 5, 2), np.float32), np.empty(0, np.float32))


class Embedder(Protocol):
    """Turns aligned faces into embeddings; see `slimcam.deploy.inference.model.Recognizer`."""

    def embed(self, images: NDArray[np.uint8]) -> Embedding:
        """`(N, E)` float32, L2-normalized, for `(N, 112, 112, 3)` uint8 RGB."""
        ...


@contextmanager
def timed(milliseconds: dict[str, float], stage: str) -> Iterator[None]:
    """Writes down what a stage takes."""
    start = time.perf_counter()
    yield
    milliseconds[stage] = 1000 * (time.perf_counter() - start)


class RecognitionPipeline:
    """Sees faces in frames, one frame after the other, in one thread.

    Args:
        detector: Finds faces.
        recognizer: Embeds faces.
        matcher: Knows people; `None` where nobody is to be known, and then nothing is embedded.
        config, quality, track: Options of recognition, of the quality gate and of the tracker.
        stopwatch: Context that is entered around each stage; another one may count something else than time.
        kind: Kind of the source; with its frame rate, it decides which rules hold from frame to frame.
        fps: Frames a second that the source tells, 0 where it does not.
        ended: Is told of each track that has ended, and then has the crops of its views.
        reach: How small the faces are that are looked for.
    """

    def __init__(
        self,
        detector: FittingDetector,
        recognizer: Embedder,
        matcher: IdentityMatcher | None,
        config: RecognizeConfig,
        quality: QualityConfig,
        track: TrackConfig,
        stopwatch: Callable[[dict[str, float], str], AbstractContextManager[None]] = timed,
        kind: SourceKind = SourceKind.clip,
        fps: float = 0.0,
        ended: Callable[[TrackIdentity], None] | None = None,
        reach: Reach = Reach.near,
    ) -> None:
        self.detector, self.recognizer = detector, recognizer
        self.quality = quality
        self._timed, self._ended = stopwatch, ended
        self._kind, self._interval, self._options = kind, Interval(fps), (config, track)
        rules = rules_for(kind, self._interval.seconds, config, track)
        self.config, self._separate = rules.recognize, rules.separate
        self._tracker, self._cuts = Tracker(rules.track), Cuts()
        self._far = FarSearch() if reach is Reach.far else None
        self._identities: dict[int, TrackIdentity] = {}
        self._seen: set[int] = set()
        self._newest: tuple[float, float] | None = None
        # The matcher that was given last, and the one in use: each has one writer, so that no lock is needed. They are
        # wrapped, for the same matcher may be given again after its gallery has changed.
        self._given = self._used = (matcher,)

    def use(self, matcher: IdentityMatcher | None) -> None:
        """Swaps the gallery, from any thread. The next frame matches all tracks again by the views that they have."""
        self._given = (matcher,)

    def change_models(
        self, detector: FittingDetector, recognizer: Embedder, matcher: IdentityMatcher | None, same_space: bool
    ) -> None:
        """Goes on with other models from the next frame on; in the thread of `see`.

        Tracks go on. Where embeddings are of another space, faces keep the identities that were reported and are
        looked at again.
        """
        self.detector, self.recognizer = detector, recognizer
        if same_space:
            self.use(matcher)
            return
        self._given = self._used = (matcher,)
        for identity in self._identities.values():
            identity.forget_looks()

    def see(self, frame: Frame) -> View:
        """What is in a frame.

        Raises:
            ValueError: the frame is of another shape or type, or the matcher knows embeddings of another size.
        """
        milliseconds: dict[str, float] = {}
        self._newest = frame.seconds, frame.captured
        given = self._given
        (matcher,) = given
        self._follow_rate(frame.seconds)
        with self._timed(milliseconds, "detect"):
            faces, looked_for = self._found(frame)
        with self._timed(milliseconds, "track"):
            cut = self._separate or self._cuts.cut(frame.image)
            tracks, ended = self._tracker.update(faces, frame.seconds, cut, looked_for)
            new = [track.number for track in tracks if track.number not in self._identities]
            self._identities.update((number, TrackIdentity(self.config)) for number in new)
            for track in tracks:
                # Who was hidden for a while, or crossed another, may come back as somebody else.
                if track.number not in self._seen:
                    self._identities[track.number].wait = self.config.spacing
            self._seen = {track.number for track in tracks}
        with self._timed(milliseconds, "align"):
            views = self._measured(frame, tracks, eager=matcher is not None)
            fit = [
                track for track in tracks if track.number in views and not self._identities[track.number].quality_issues
            ]
            looked = [] if matcher is None else self._chosen(fit, views, frame.seconds)
            crops = [align(frame.image, track.points) for track in looked]
        embeddings: Iterable[Embedding] = ()
        if crops:
            with self._timed(milliseconds, "embed"):
                embeddings = self.recognizer.embed(np.stack(crops))
        reported: list[tuple[EventKind | None, int]] = []
        if crops or given is not self._used:
            with self._timed(milliseconds, "match"):
                if given is not self._used:
                    reported += [(identity.rematch(matcher), number) for number, identity in self._identities.items()]
                    self._used = given
                for track, embedding, crop in zip(looked, embeddings, crops, strict=True):
                    identity = self._identities[track.number]
                    counts = identity.add(
                        EmbeddedView(embedding, views[track.number].quality, None if self._ended is None else crop),
                        frame.seconds,
                    )
                    if counts and matcher is not None:
                        reported.append((identity.answer(matcher.match(identity.mean)), track.number))

        at = time.time()
        events = [Event("appeared", number, None, frame.seconds, at) for number in new]
        events += [
            Event(kind, number, self._identities[number].reported, frame.seconds, at)
            for kind, number in reported
            if kind is not None
        ]
        events += [Event("left", track.number, self._leave(track.number), frame.seconds, at) for track in ended]
        sightings = tuple(
            Sighting(track.number, track.points, track.score, identity.quality_issues, identity.identity)
            for track in tracks
            for identity in [self._identities[track.number]]
        )
        milliseconds["result"] = 1000 * (time.monotonic() - frame.captured)
        return View(frame, sightings, tuple(events), milliseconds)

    def lapse(self, now: float) -> tuple[Event, ...]:
        """Ends the tracks whose faces no frame has shown for too long, where no frames come.

        Args:
            now: `time.monotonic()`.
        """
        if self._newest is None:
            return ()
        seconds, captured = self._newest
        seconds += max(0.0, now - captured)
        if seconds - self._newest[0] <= self._tracker.config.buffer_seconds:
            return ()
        self._newest = None
        return self.end(seconds)

    def end(self, seconds: float | None = None) -> tuple[Event, ...]:
        """Ends all tracks: the source has ended.

        Args:
            seconds: Time of the events in the source; that of the newest frame if `None`.
        """
        if seconds is None:
            seconds = 0.0 if self._newest is None else self._newest[0]
        _, ended = self._tracker.update(NO_FACES, seconds, cut=True)
        at = time.time()
        return tuple(Event("left", one.number, self._leave(one.number), seconds, at) for one in ended)

    def _leave(self, number: int) -> Identity | None:
        """Forgets a track; gives who it was taken for."""
        gone = self._identities.pop(number)
        if self._ended is not None:
            self._ended(gone)
        return gone.identity

    def _found(self, frame: Frame) -> tuple[Faces, NDArray[np.bool_] | None]:
        """The faces in a frame, and which of those that the tracker expects were looked for if not all."""
        if self._far is None:
            return self.detector.detect(frame.image), None
        interval = math.inf if self._separate else self._interval.seconds
        return self._far.find(self.detector, frame.image, self._tracker.expected(frame.seconds), interval)

    def _follow_rate(self, seconds: float) -> None:
        """Takes the rules that fit how far frames are apart now."""
        before = self._interval.seconds
        if self._kind is SourceKind.pictures or self._interval.add(seconds) == before:
            return
        rules = rules_for(self._kind, self._interval.seconds, *self._options)
        self._tracker.config = rules.track
        if rules.recognize != self.config:
            self.config = rules.recognize
            for identity in self._identities.values():
                identity.config = rules.recognize

    def _measured(self, frame: Frame, tracks: list[Track], eager: bool) -> dict[int, ViewMeasures]:
        """How good this frame's views are, of those tracks that may be looked at: measuring takes longer than tracking.

        That is every `spacing`, and, if `eager`, in every frame for a face that is fit and waits for its first look.
        """
        views = {}
        for track in tracks:
            identity = self._identities[track.number]
            if not track.seen:
                continue
            waits = eager and not identity.views and not identity.quality_issues
            if waits or frame.seconds - identity.measured >= self.config.spacing:
                view = views[track.number] = measure_view(frame.image, track.points)
                identity.quality_issues, identity.measured = view.quality_issues(self.quality), frame.seconds
        return views

    def _chosen(self, fit: list[Track], views: dict[int, ViewMeasures], seconds: float) -> list[Track]:
        candidates = [
            self._identities[track.number].candidate(track.number, views[track.number].quality, seconds)
            for track in fit
        ]
        chosen = choose(candidates, self.config)
        return [track for track in fit if track.number in chosen]
