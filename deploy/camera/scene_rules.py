"""Which rules hold from one frame to the next, by the kind of a source and by how far its frames are apart.

In a clip a face in the same place is the same person, an answer is believed after two looks that agree, and a face
that is hidden for a moment keeps its track. None of it holds for a folder of portraits, and only some of it for a
camera that is seen once in two seconds.
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, replace

from slimcam.deploy.camera.sources.source import SourceKind
from slimcam.deploy.camera.track_identity import RecognizeConfig
from slimcam.deploy.vision.track import TrackConfig

REPLY_SECONDS = 1.0
"""Looks that must agree have to fit into so long; where frames are too far apart for it, one look answers."""

BUFFER_FRAMES = 2.5
"""Frames that a track outlives its face, at the least: with fewer, a face missed once would begin again."""

SPARSE_BUDGET = 16
"""Embeddings in a frame where frames are far apart: there is time for them."""

GAPS = 5
"""Distances between frames that their median is taken of: one pause of a stream does not count."""


@dataclass(frozen=True)
class SceneRules:
    """Rules from one frame to the next.

    Attributes:
        recognize: Options of recognition.
        track: Options of the tracker.
        separate: Whether each frame is a scene of its own, with faces that are nobody's of the frame before.
    """

    recognize: RecognizeConfig
    track: TrackConfig
    separate: bool = False


def rules_for(kind: SourceKind, interval: float, recognize: RecognizeConfig, track: TrackConfig) -> SceneRules:
    """The rules for a source.

    Args:
        kind: Kind of the source.
        interval: Seconds between two frames, 0 where it is not known.
        recognize, track: Options as they are for a clip of many frames a second.
    """
    if kind is SourceKind.pictures:
        # Whoever gives pictures wants an answer to each face in them; there is no next frame to look at it again.
        one_look = replace(recognize, agree=1, votes=1, budget=1 << 30)
        return SceneRules(one_look, replace(track, hits=1), separate=True)
    if recognize.agree * max(interval, recognize.spacing) <= max(REPLY_SECONDS, recognize.agree * recognize.spacing):
        return SceneRules(recognize, track)
    # Anybody may have taken the place meanwhile: each view answers for itself, in each frame.
    sparse = replace(
        recognize,
        agree=1,
        votes=1,
        budget=max(recognize.budget, SPARSE_BUDGET),
        again=recognize.spacing,
        rest=recognize.spacing,
    )
    return SceneRules(
        sparse, replace(track, hits=1, buffer_seconds=max(track.buffer_seconds, BUFFER_FRAMES * interval))
    )


class Interval:
    """Seconds between the frames of a source, as they come.

    Args:
        fps: Frames a second that the source tells, 0 where it does not.
    """

    def __init__(self, fps: float = 0.0) -> None:
        self.seconds = 1 / fps if fps > 0 else 0.0
        self._gaps: deque[float] = deque(maxlen=GAPS)
        self._last: float | None = None

    def add(self, seconds: float) -> float:
        """Takes in the time of a frame, in seconds; gives the median distance of the last few."""
        if self._last is not None and seconds > self._last:
            self._gaps.append(seconds - self._last)
            if len(self._gaps) == GAPS or not self.seconds:
                self.seconds = statistics.median(self._gaps)
        self._last = seconds
        return self.seconds
