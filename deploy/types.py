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
        image: `(h, w, 3)` uint8 RGB.
        number: of the frame in its source, from 0.
        seconds: since the source's first frame; in a file, of the clip.
        captured: `time.monotonic()` when the frame was whole.
        lost: frames of the source that were dropped since the frame handed out before.
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
        person: the gallery's id of a person; `None` where the face is nobody's in it.
        name: the person's name; data of a user, never markup or a path.
        score: cosine with the best template of the gallery, of this person or, for unknown ones, of anybody; -1 where
            the gallery is empty.
        margin: how much better that is than the best template of another person.
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
        track: the number of a face over time, from 1; never given twice in a run.
        points: `(5, 2)` float32, see `deploy.vision.align`.
        score: of the detector, 0..1.
        flaws: why the face is not fit to be recognised by, for example `small` or `blurred`; none if fit. They are of
            this view or of one shortly before.
        identity: what the track's views so far say; `None` as long as none was looked at.
    """

    track: int
    points: NDArray[np.float32]
    score: float
    flaws: tuple[str, ...]
    identity: Identity | None


@dataclass(frozen=True)
class Event:
    """Something worth telling.

    Attributes:
        kind: a track `appeared`, was `recognised`, is found to be `unknown`, or has `left`. A track that changes its
            mind is recognised, or unknown, anew.
        identity: `None` for tracks that nothing is known about.
        seconds: of the frame.
        at: Unix time, seconds.
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
        milliseconds: what each stage took that had something to do, by its name in `STAGES`.
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
        kind: `pictures`, `clip` or `live`, see `deploy.camera.sources`.
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
