"""From a frame to who is in it: detect, track, choose the views worth an embedding, and let a track's views vote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.camera.track_identity import Embedding, Look, Matcher, RecognizeConfig, Votes, choose
from deploy.types import Event, EventKind, Frame, Sighting, View
from deploy.vision.align import align
from deploy.vision.detector import Detector
from deploy.vision.quality import QualityConfig, ViewMeasures, measure_view
from deploy.vision.shot_boundary import Cuts
from deploy.vision.track import Track, TrackConfig, Tracker


class Embedder(Protocol):
    """Turns aligned faces into embeddings; see `deploy.inference.model.Recognizer`."""

    def embed(self, images: NDArray[np.uint8]) -> Embedding:
        """`(N, E)` float32, L2-normalised, for `(N, 112, 112, 3)` uint8 RGB."""
        ...


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

    def change_models(
        self, detector: Detector, recognizer: Embedder, matcher: Matcher | None, same_space: bool
    ) -> None:
        """Goes on with other models from the next frame on; in the thread of `see`.

        Tracks go on. Where embeddings are of another space, faces keep the names that they were told by, and are looked
        at anew.
        """
        self.detector, self.recognizer = detector, recognizer
        if same_space:
            self.use(matcher)
            return
        self._given = self._used = (matcher,)
        for votes in self._votes.values():
            votes.forget_looks()

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
            fit = [track for track in tracks if track.number in views and not self._votes[track.number].quality_issues]
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
            Sighting(track.number, track.points, track.score, votes.quality_issues, votes.identity)
            for track in tracks
            for votes in [self._votes[track.number]]
        )
        milliseconds["result"] = 1000 * (time.monotonic() - frame.captured)
        return View(frame, sightings, tuple(events), milliseconds)

    def _measured(self, frame: Frame, tracks: list[Track], eager: bool) -> dict[int, ViewMeasures]:
        """How good this frame's views are, of those tracks that may be looked at: measuring takes longer than tracking.

        That is every `spacing`, and, if `eager`, in every frame for a face that is fit and waits for its first look.
        """
        views = {}
        for track in tracks:
            votes = self._votes[track.number]
            waits = eager and not votes.looks and not votes.quality_issues
            if waits or frame.seconds - votes.measured >= self.config.spacing:
                view = views[track.number] = measure_view(frame.image, track.points)
                votes.quality_issues, votes.measured = view.quality_issues(self.quality), frame.seconds
        return views

    def _chosen(self, fit: list[Track], views: dict[int, ViewMeasures], seconds: float) -> list[Track]:
        candidates = [
            self._votes[track.number].candidate(track.number, views[track.number].quality, seconds) for track in fit
        ]
        chosen = choose(candidates, self.config)
        return [track for track in fit if track.number in chosen]
