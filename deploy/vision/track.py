"""Faces over time: which of this frame's faces is which of the last one's.

Faces are followed by where they are, not by who they are: a track that another person takes over is noticed by
`slimcam.deploy.camera.recognition`, which looks at the faces themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    """

    number: int
    points: Float
    score: float
    age: float


@dataclass(frozen=True)
class _Path:
    """What is known of a face; `number` is 0 until it is certain to be one.

    Attributes:
        size: Width of the face, pixels.
        velocity: `(2,)` pixels a second.
        first, last: seconds, when it was seen.
    """

    number: int
    points: Float
    score: float
    size: float
    velocity: Float
    first: float
    last: float
    hits: int

    def expected(self, seconds: float) -> Float:
        """Its points at another time."""
        return self.points + self.velocity * np.float32(min(seconds - self.last, _AHEAD))

    @property
    def track(self) -> Track:
        return Track(self.number, self.points, self.score, self.last - self.first)


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

    def update(self, faces: Faces, seconds: float, cut: bool = False) -> tuple[list[Track], list[Track]]:
        """Takes in the faces of one more frame.

        Args:
            faces: Detected faces, in any order.
            seconds: when the frame was; frames may be missing. Where time goes back, another clip begins and all
                tracks end.
            cut: whether the frame begins another scene, and all tracks end.

        Returns:
            The tracks in this frame, and those that have ended, each in the order of their numbers.
        """
        config = self.config
        oldest = math.inf if cut or seconds < self._seconds else seconds - config.buffer_seconds
        kept = [path for path in self._paths if path.last >= oldest]
        ended = [path for path in self._paths if path.last < oldest]

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
        self._paths = seen + [path for path in missed if path.number]
        return _tracks(seen), _tracks(ended)

    def _moved(self, path: _Path, points: Float, score: float, size: float, seconds: float) -> _Path:
        velocity, passed = path.velocity, seconds - path.last
        if passed >= 1e-3:
            new = (points - path.points).sum(axis=0) / np.float32(len(points) * passed)
            # Of a new track nothing else is known.
            share = 1.0 if path.hits == 1 else 1 - math.exp(-passed / _STEADY)
            velocity = velocity + np.float32(share) * (new - velocity)
        hits = path.hits + 1
        number = path.number or self._number(score, hits)
        return _Path(number, points, score, size, velocity, path.first, seconds, hits)

    def _begun(self, points: Float, score: float, size: float, seconds: float) -> _Path:
        return _Path(self._number(score, 1), points, score, size, np.zeros(2, np.float32), seconds, seconds, 1)

    def _number(self, score: float, hits: int) -> int:
        if hits < self.config.hits and score < self.config.high_threshold:
            return 0
        self._given += 1
        return self._given


def _tracks(paths: list[_Path]) -> list[Track]:
    return sorted((path.track for path in paths if path.number), key=lambda track: track.number)


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
