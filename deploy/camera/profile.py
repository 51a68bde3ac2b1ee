"""`python -m slimcam.deploy.camera.profile SOURCE`: what a frame of the camera costs, part by part.

The source, a video file or a folder of pictures, is played several times from its start, so that a frame is the same
work each time; of each part the quickest time counts, for other work on the machine only ever adds to it. Frames that
show another number of faces than `--faces` are not in the figures. Reading a frame is told apart. Whoever is seen first
is enrolled, besides people who are never seen.

Every other round only the networks and the whole frame are timed, for the clock takes time too; what is left of the
whole is in no part.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np

from slimcam.deploy.camera import recognition
from slimcam.deploy.camera.recognition import RecognitionPipeline
from slimcam.deploy.camera.sources import SourceConfig, open_source
from slimcam.deploy.camera.track_identity import RecognizeConfig
from slimcam.deploy.common.console import show
from slimcam.deploy.common.text_table import grid
from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.gallery.match import Matcher, threshold
from slimcam.deploy.gallery.people import Person, Snapshot
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import Frame
from slimcam.deploy.vision import detector as detection
from slimcam.deploy.vision.align import align
from slimcam.deploy.vision.detector import FaceDetector, open_detector
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.deploy.vision.track import TrackConfig

WARMUP = 10
"""Frames at the start of a round that do not count: memory is touched, and a track begins."""

UNSEEN = 100
"""People of the gallery who are never seen."""

SOURCE, WHOLE, REST = "reading the frame", "whole frame, without reading", "everything else"
NETWORKS = ("detector's network", "recognizer's network")

Times = dict[tuple[int, str], list[float]]
"""Seconds that a part of a frame took in each round, by the number of the frame."""


def main() -> None:
    """Prints a table: milliseconds of each part, a mean over the frames, and the share outside of the networks."""
    options = _options()
    try:
        show(profile(options.source, options.frames, options.rounds, options.faces))
    except (OSError, ValueError) as error:
        show(str(error), to_stderr=True)
        sys.exit(1)


def profile(source: str, frames: int = 300, rounds: int = 15, faces: int = 1) -> str:
    """The table of a source; see the module.

    Args:
        source: Video file or folder of pictures.
        frames: Frames of the source that are played, at the most.
        rounds: Times that they are played.
        faces: Number of faces in the frames that count.

    Raises:
        OSError, ValueError: The source cannot be read, or no frame shows that many faces.
    """
    cv2.setNumThreads(1)
    detector, recognizer = open_detector(DETECTOR), Recognizer(RECOGNIZER)
    assert isinstance(detector, FaceDetector)
    matcher = _matcher(source, frames, detector, recognizer)
    pipeline = partial(RecognitionPipeline, detector, recognizer, matcher, RecognizeConfig(), QualityConfig())
    whole, parts, shown = Times(), Times(), dict[int, int]()
    for _ in range(rounds):
        for times, detailed in ((whole, False), (parts, True)):
            played = pipeline(TrackConfig())
            watched = _networks(detector, recognizer) + (
                _parts(detector, recognizer, matcher, played) if detailed else []
            )
            for number, faces_shown, seconds in _play(_frames(source, frames), played, watched):
                shown[number] = faces_shown
                for part, took in seconds.items():
                    times.setdefault((number, part), []).append(took)
    counted = {number for number, count in shown.items() if count == faces and number >= WARMUP}
    if not counted:
        raise ValueError(f"{source}: none of its first {len(shown)} frames, after {WARMUP}, shows {faces} faces")
    return _table(whole, parts, counted, rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m slimcam.deploy.camera.profile", description=(__doc__ or "").split("\n\n", 1)[1]
    )
    parser.add_argument("source", help="a video file or a folder of pictures")
    parser.add_argument("--faces", type=int, default=1, help="faces in the frames that count (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=300, help="frames, at the most (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="times that they are played (default: %(default)s)")
    return parser.parse_args()


def _frames(source: str, frames: int) -> Iterator[Frame]:
    with open_source(source, SourceConfig(sequence=True)) as opened:
        yield from itertools.islice(opened, frames)


def _matcher(source: str, frames: int, detector: FaceDetector, recognizer: Recognizer) -> Matcher:
    """Knows people who are never seen, and whoever is seen first in the source."""
    rng = np.random.default_rng(0)
    embeddings = unit_length(rng.standard_normal((UNSEEN + 1, recognizer.embedding_size), np.float32))
    for frame in _frames(source, frames):
        if len(found := detector.detect(frame.image)):
            embeddings[0] = recognizer.embed(align(frame.image, found.points[0])[np.newaxis])[0]
            break
    people = tuple(Person(f"{i:032x}", f"person {i}", 1, 0.0, None, "") for i in range(len(embeddings)))
    return Matcher(Snapshot(1, people, embeddings, np.arange(len(people))), threshold(recognizer.bundle, 0.001), 0.05)


class _Clock:
    """Seconds of parts that are called within each other: each has its own, without those of the parts within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is counted as that of a part."""

        def call(*arguments: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                took = time.perf_counter() - start
                self.seconds[name] += took - self._inner.pop()
                self._inner[-1] += took

        return call


_Watched = list[tuple[str, Any, str]]
"""Functions that are timed: the part that they are of, whose they are, and their name there."""


def _networks(detector: FaceDetector, recognizer: Recognizer) -> _Watched:
    return [(NETWORKS[0], detector.model.interpreter, "invoke"), (NETWORKS[1], recognizer.interpreter, "invoke")]


def _parts(detector: FaceDetector, recognizer: Recognizer, matcher: Matcher, pipeline: RecognitionPipeline) -> _Watched:
    return [
        ("letterboxing", detection, "letterbox"),
        ("tensors in and out", detector.model, "output"),
        ("tensors in and out", recognizer, "output"),
        ("decoding of faces", detection, "decode_faces"),
        ("cuts", pipeline._cuts, "cut"),
        ("tracker", pipeline._tracker, "update"),
        ("quality of views", recognition, "measure_view"),
        ("alignment", recognition, "align"),
        ("matching", matcher, "match"),
    ]


def _play(
    frames: Iterator[Frame], pipeline: RecognitionPipeline, watched: _Watched
) -> Iterator[tuple[int, int, dict[str, float]]]:
    """Number, faces and seconds of the parts of each frame."""
    clock = _Clock()
    originals = [(owner, name, owner.__dict__.get(name)) for _, owner, name in watched]
    for part, owner, name in watched:
        setattr(owner, name, clock.watched(part, getattr(owner, name)))
    see, read = clock.watched(REST, pipeline.see), clock.watched(SOURCE, next)
    try:
        while (frame := read(frames, None)) is not None:
            view = see(frame)
            yield frame.number, len(view.sightings), dict(clock.seconds)
            clock.seconds.clear()
    finally:
        for owner, name, original in originals:
            if original is None:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


def _table(whole: Times, parts: Times, counted: set[int], rounds: int) -> str:
    quickest, usual = (_mean(whole, counted, of) for of in (min, statistics.median))
    inside = _mean(parts, counted, min)
    names = sorted(set(inside) - {SOURCE, REST, *NETWORKS}, key=lambda part: -inside[part])
    total = sum(quickest.values()) - quickest[SOURCE]
    figures = {part: quickest.get(part, 0.0) for part in NETWORKS} | {part: inside[part] for part in names}
    figures |= {REST: total - sum(figures.values()), WHOLE: total}
    had = {part: sum((number, part) in parts for number in counted) for part in figures}
    rows = [("part", "ms", "share", "frames")]
    for part, ms in figures.items():
        rows.append((part, f"{ms:.3f}", f"{ms / total:.0%}", str(had[part] or len(counted))))
    rows.append((SOURCE, f"{quickest[SOURCE]:.3f}", "", str(len(counted))))
    lines = [f"{len(counted)} frames, each the quickest of {rounds} times", "", grid(rows), ""]
    for title, times in (("quickest", quickest), ("median", usual)):
        networks = sum(times.get(part, 0.0) for part in NETWORKS)
        frame = networks + times[REST]
        lines.append(
            f"outside of the networks, {title} times: {times[REST]:.3f} of {frame:.3f} ms, {times[REST] / frame:.0%}"
        )
    return "\n".join(lines)


def _mean(times: Times, counted: set[int], of: Callable[[list[float]], float]) -> dict[str, float]:
    """Milliseconds of each part, a mean over the frames; a frame that has no such part counts as 0."""
    total: dict[str, float] = defaultdict(float)
    for (number, part), seconds in times.items():
        if number in counted:
            total[part] += 1000 * of(seconds) / len(counted)
    return total


if __name__ == "__main__":
    main()
