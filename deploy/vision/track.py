"""Faces over time: which of this frame's faces is which of the last one's.

Faces are followed by where they are, not by who they are: a track that another person takes over is noticed by
`slimcam.deploy.camera.recognition`, which looks at the faces themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import face_sizes
from slimcam.deploy.vision.detector_output import Faces

Float = NDArray[np.float32]

_STEADY = 0.15
"""Seconds over which velocities are averaged: 5 frames of a camera."""

_AHEAD = 0.5
"""Seconds that a face which is not seen is thought to move; after that it is expected to stay where it is."""


_HIDDEN = 0.2
"""Sizes of a face by which one that was in the last frame may lie farther off than one that was not. Where two cross,
both are expected in one place, and the one that is seen is the one in front."""


RENAMED_OPTIONS = {"weak": "low_threshold", "certain": "high_threshold", "patience": "buffer_seconds"}
"""Former names of options of `TrackConfig`, which work for one version more."""


@dataclass
class TrackConfig:
    """How faces are followed.

    Attributes:
        low_threshold: Detection score below which a face continues tracks but begins none. Detectors hesitate over
            faces that turn away or are partly hidden, and about things that are none.
        high_threshold: Detection score from which on a face begins a track at once; others must be seen in `hits`
            frames in a row.
        hits: Frames in a row that a face below the high threshold must be seen in to begin a track.
        buffer_seconds: Track buffer: seconds that a track is kept after its face was last seen.
        reach: Largest distance of a face from where it is expected, in widths of the face.
        speed: Widths of the face that the reach grows by for each second without it, for up to half a second.
    """

    low_threshold: float = 0.6
    high_threshold: float = 0.8
    hits: int = 3
    buffer_seconds: float = 1.5
    reach: float = 0.4
    speed: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.low_threshold <= 1 or not 0 <= self.high_threshold <= 1:
            raise ValueError(
                "track.low_threshold and track.high_threshold are scores, 0 to 1; "
                f"got {self.low_threshold} and {self.high_threshold}"
            )
        if self.hits < 1:
            raise ValueError(f"track.hits must be 1 frame or more; got {self.hits}")
        if not 0 < self.buffer_seconds < math.inf:
            raise ValueError(f"track.buffer_seconds must be above 0; got {self.buffer_seconds}")
        if not (0 < self.reach < math.inf and 0 <= self.speed < math.inf):
            raise ValueError(f"track.reach must be above 0 and track.speed 0 or more; got {self.reach}, {self.speed}")


@dataclass(frozen=True)
class Track:
    """A face over time, as of the last frame that it was in.

    Attributes:
        number: Number of the track, from 1 in the order of appearance; never given twice.
        points: Landmarks, `(5, 2)` float32, as they were detected.
        score: Detection score.
        age: Seconds since the face was first seen.
        seen: Whether it was found in this frame. Otherwise it was not looked for, and its points are those expected.
    """

    number: int
    points: Float
    score: float
    age: float
    seen: bool = True


@dataclass(frozen=True)
class ExpectedFaces:
    """Where the faces that are followed are expected in a frame, those among them that are not yet certain to be any.

    Attributes:
        points: `(K, 5, 2)` float32.
        looked: `(K,)` float64, seconds, when each was last looked for.
    """

    points: Float
    looked: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.points)


NOBODY_EXPECTED = ExpectedFaces(np.empty((0, 5, 2), np.float32), np.empty(0, np.float64))


@dataclass(frozen=True)
class _Path:
    """What is known of a face; `number` is 0 until it is certain to be one.

    Attributes:
        size: Width of the face, pixels.
        velocity: `(2,)` pixels a second.
        first, last: seconds, when it was seen.
        looked: seconds, when it was last looked for.
        alive: seconds, the last time at which nothing spoke against it: it was seen, or not looked for since.
    """

    number: int
    points: Float
    score: float
    size: float
    velocity: Float
    first: float
    last: float
    hits: int
    looked: float
    alive: float

    def expected(self, seconds: float) -> Float:
        """Its points at another time."""
        return self.points + self.velocity * np.float32(min(seconds - self.last, _AHEAD))

    def passed(self, seconds: float, looked: bool) -> _Path:
        """The same at the time of another frame, in which it was looked for or not."""
        if looked:
            return replace(self, looked=seconds)
        return replace(self, alive=seconds) if self.looked <= self.last else self

    def waits(self, seconds: float) -> bool:
        """Whether it was not looked for at that time, nor missed before."""
        return self.looked < seconds <= self.alive

    @property
    def track(self) -> Track:
        return Track(self.number, self.points, self.score, self.last - self.first)

    def expected_track(self, seconds: float) -> Track:
        return replace(self.track, points=self.expected(seconds), seen=False)


class Tracker:
    """Gives each face one number for as long as it is followed.

    Faces are associated with tracks in two rounds, as in ByteTrack (Zhang et al. 2022, section 3): first those with a
    score above the low threshold, then the others with the tracks that are left. Only the former begin tracks. In each
    round the nearest pair is joined first. The distance of a face from a track is the mean distance of its points from
    where those of the track are expected at its velocity, in widths of the smaller face. It is 0 for the same place,
    size and rotation only, so it says what an overlap of boxes does and, where they do not overlap, still how far they
    are apart.
    """

    def __init__(self, config: TrackConfig) -> None:
        self.config = config
        self._paths: list[_Path] = []
        self._seconds = -math.inf
        self._given = 0

    def expected(self, seconds: float) -> ExpectedFaces:
        """Where the faces are expected at a time, in seconds."""
        points = np.array([path.expected(seconds) for path in self._paths], np.float32).reshape(-1, 5, 2)
        return ExpectedFaces(points, np.array([path.looked for path in self._paths], np.float64))

    def update(
        self, faces: Faces, seconds: float, cut: bool = False, looked: NDArray[np.bool_] | None = None
    ) -> tuple[list[Track], list[Track]]:
        """Takes in the faces of one more frame.

        Args:
            faces: Detected faces, in any order.
            seconds: when the frame was; frames may be missing. Where time goes back, another clip begins and all
                tracks end.
            cut: whether the frame begins another scene, and all tracks end.
            looked: `(K,)`, which of the `expected` faces were looked for, if not all of them. A face that was not
                looked for was not missed: its track grows no older, and is told of where it is expected.

        Returns:
            The tracks in this frame, and those that have ended, each in the order of their numbers.
        """
        config = self.config
        oldest = math.inf if cut or seconds < self._seconds else seconds - config.buffer_seconds
        if looked is not None:
            self._paths = [path.passed(seconds, bool(each)) for path, each in zip(self._paths, looked, strict=True)]
        kept = [path for path in self._paths if path.alive >= oldest]
        ended = [path for path in self._paths if path.alive < oldest]

        order = np.lexsort((*faces.points.reshape(-1, 10).T[::-1], -faces.scores)) if len(faces) > 1 else slice(None)
        points, scores = faces.points[order], faces.scores[order].tolist()
        sizes = face_sizes(points).tolist() if scores else []
        pairs = []
        for path, row in enumerate(_distances(kept, points, sizes, seconds)):
            reach = config.reach + config.speed * min(seconds - kept[path].last, _AHEAD)
            hidden = _HIDDEN if kept[path].last < self._seconds else 0.0
            pairs += [
                (scores[face] < config.low_threshold, distance + hidden, path, face)
                for face, distance in enumerate(row)
                if distance <= reach
            ]
        self._seconds = seconds
        joined = _joined(pairs)

        seen = [
            self._moved(kept[path], points[face], scores[face], sizes[face], seconds) for path, face in joined.items()
        ]
        taken = set(joined.values())
        seen += [
            self._begun(points[face], score, sizes[face], seconds)
            for face, score in enumerate(scores)
            if score >= config.low_threshold and face not in taken
        ]
        missed = [path for index, path in enumerate(kept) if index not in joined]
        # What was seen in a few frames only, and now is not, was none.
        self._paths = seen + [path for path in missed if path.number or path.waits(seconds)]
        waiting = [path for path in missed if path.waits(seconds)]
        told = [path.track for path in seen] + [path.expected_track(seconds) for path in waiting]
        return _numbered(told), _numbered([path.track for path in ended])

    def _moved(self, path: _Path, points: Float, score: float, size: float, seconds: float) -> _Path:
        velocity, passed = path.velocity, seconds - path.last
        if passed >= 1e-3:
            new = (points - path.points).sum(axis=0) / np.float32(len(points) * passed)
            # Of a new track nothing else is known.
            share = 1.0 if path.hits == 1 else 1 - math.exp(-passed / _STEADY)
            velocity = velocity + np.float32(share) * (new - velocity)
        hits = path.hits + 1
        number = path.number or self._number(score, hits)
        return _Path(number, points, score, size, velocity, path.first, seconds, hits, seconds, seconds)

    def _begun(self, points: Float, score: float, size: float, seconds: float) -> _Path:
        number, still = self._number(score, 1), np.zeros(2, np.float32)
        return _Path(number, points, score, size, still, seconds, seconds, 1, seconds, seconds)

    def _number(self, score: float, hits: int) -> int:
        if hits < self.config.hits and score < self.config.high_threshold:
            return 0
        self._given += 1
        return self._given


def _numbered(tracks: list[Track]) -> list[Track]:
    return sorted((track for track in tracks if track.number), key=lambda track: track.number)


def _distances(paths: list[_Path], points: Float, sizes: list[float], seconds: float) -> list[list[float]]:
    """How far each of the faces is from where each path expects its own, in widths of the smaller; a row a path."""
    if not paths or not sizes:
        return []
    apart = np.array([path.expected(seconds) for path in paths])[:, np.newaxis] - points
    summed = np.hypot(apart[..., 0], apart[..., 1]).sum(axis=2)
    # A path's face keeps its size on its way to where it is expected.
    smaller = np.minimum(np.array([[path.size] for path in paths], np.float32), np.array(sizes, np.float32))
    distances: list[list[float]] = (summed / (points.shape[1] * np.maximum(smaller, np.float32(1e-3)))).tolist()
    return distances


def _joined(pairs: list[tuple[bool, float, int, int]]) -> dict[int, int]:
    """The face of each path that has one: the nearest pair of the first round first, then the nearest of what is left.

    Args:
        pairs: Round (the second is `True`), distance, path and face of those that are near enough.
    """
    joined: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, path, face in sorted(pairs):
        if path not in joined and face not in taken:
            joined[path] = face
            taken.add(face)
    return joined
