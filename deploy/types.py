"""What the parts of the camera application hand on: frames, the faces in them, who they are, and what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

EventKind = Literal["appeared", "recognised", "unknown", "left"]


@dataclass(frozen=True)
class Frame:
    """A picture of a source.

    Attributes:
        image: Pixels, `(h, w, 3)` uint8 RGB.
        number: Number of the frame in its source, from 0.
        seconds: Seconds since the source's first frame; of a file, the time in the clip.
        captured: `time.monotonic()` at the moment when the frame was complete.
        lost: Number of frames of the source that were dropped since the frame handed out before.
    """

    image: NDArray[np.uint8]
    number: int
    seconds: float
    captured: float
    lost: int = 0


@dataclass(frozen=True)
class Identity:
    """Who a face is taken for.

    Attributes:
        person: The gallery's id of the person; `None` for an unknown face.
        name: The person's name: data of a user, never markup or a path.
        score: Cosine of the face with the best template of the gallery, of this person or, if unknown, of anybody; -1
            where the gallery is empty.
        margin: Difference of that score and the one of the best template of another person.
    """

    person: str | None
    name: str | None
    score: float
    margin: float

    @property
    def known(self) -> bool:
        return self.person is not None


@dataclass(frozen=True)
class Sighting:
    """A face in a frame.

    Attributes:
        track: Number of the track, from 1; never given twice in a run.
        points: Landmarks, `(5, 2)` float32, see `slimcam.deploy.vision.align`.
        score: Detection score, 0..1.
        quality_issues: Why the face is not fit to be recognized by, for example "small" or "blurred"; empty if it is.
            They are those of this view or of one shortly before.
        identity: Who the track's views so far are taken for; `None` as long as none was embedded.
    """

    track: int
    points: NDArray[np.float32]
    score: float
    quality_issues: tuple[str, ...]
    identity: Identity | None


@dataclass(frozen=True)
class Event:
    """Something that happened to a track.

    Attributes:
        kind: What happened to the track: it "appeared", was "recognised", is found to be "unknown", or has "left". A
            track whose identity changes is reported again.
        track: Number of the track.
        identity: Who the track is taken for; `None` as long as nothing is known about it.
        seconds: Seconds from the source's first frame to this one.
        at: Unix time in seconds.
    """

    kind: EventKind
    track: int
    identity: Identity | None
    seconds: float
    at: float


@dataclass(frozen=True)
class View:
    """A frame and all that was made of it.

    Attributes:
        frame: The frame.
        sightings: The faces in it.
        events: What happened in it.
        milliseconds: Milliseconds of each stage that had something to do, by its name in `STAGES`.
    """

    frame: Frame
    sightings: tuple[Sighting, ...]
    events: tuple[Event, ...]
    milliseconds: Mapping[str, float]


@dataclass(frozen=True)
class SourceStatus:
    """Whether frames come from the source of a camera.

    Attributes:
        state: `connecting` before the first frame, `connected`, `lost` while it is tried again, or `ended`.
        since: Unix time since when; of a lost source, that of its last frame.
        kind: `pictures`, `clip` or `live`, see `slimcam.deploy.camera.sources`.
    """

    state: str
    since: float
    kind: str

    @property
    def connected(self) -> bool:
        return self.state == "connected"


@dataclass(frozen=True)
class Notice:
    """What has happened without a frame.

    Attributes:
        source: State of the source.
        events: Tracks that have left because no frame shows them any more.
        sightings: Faces that are still taken to be in view.
    """

    source: SourceStatus
    events: tuple[Event, ...] = ()
    sightings: tuple[Sighting, ...] = ()


STAGES = ("detect", "track", "align", "embed", "match", "result")
"""Of a frame, in their order; `result` is from the capture of the frame to the answer, waiting included."""


class Output(Protocol):
    """Something that views are shown to, and what happens between them, from one thread.

    A lost connection is neither an error nor worth waiting for: frames that cannot be shown are dropped.
    """

    def show(self, view: View) -> None: ...

    def notice(self, notice: Notice) -> None: ...

    def close(self) -> None: ...
