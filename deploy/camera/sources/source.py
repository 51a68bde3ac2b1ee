"""What every source of frames is, and its options."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from slimcam.deploy.common.choices import Choice
from slimcam.deploy.common.errors import SourceError
from slimcam.deploy.common.redaction import printable
from slimcam.deploy.types import Frame
from slimcam.deploy.vision.align import LARGEST_SIDE
from slimcam.deploy.vision.image_files import Image


class SourceKind(Choice):
    """What its frames have to do with each other."""

    pictures = "pictures"
    """Nothing: each is a scene of its own."""
    clip = "clip"
    """They follow each other, and come as fast as they are taken."""
    live = "live"
    """They follow each other, and come whether they are taken or not."""


State = Literal["connecting", "running", "reconnecting", "ended"]

logger = logging.getLogger(__name__)

_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


QUIET_SECONDS = 60.0
"""Within so long a source that comes and goes is told of once each way."""


@dataclass
class SourceConfig:
    """How frames are taken.

    Attributes:
        width, height, fps: Size and rate that a webcam or a Raspberry Pi camera is asked for, 0 for its own; it
            may give others. The pictures of a folder follow each other at `fps`, at 1 where it is 0.
        rotate: Degrees clockwise that frames are turned by: 0, 90, 180 or 270.
        loop: Whether files begin again at their end.
        sequence: Whether the pictures of a folder are the frames of one clip. Otherwise each is a scene of its own, in
            which every face is answered after one look.
        realtime: Whether files are played as a camera would deliver them: who is too slow for them loses frames.
        max_age: Seconds after which a frame of a live source is too old to be handed out.
        reconnect_seconds: Longest pause, seconds, between two attempts to reach a camera that was lost.
        timeout: Seconds without an answer after which a network stream counts as lost; FFmpeg may lose patience after
            half of them.
    """

    width: int = 0
    height: int = 0
    fps: float = 0.0
    rotate: int = 0
    loop: bool = False
    sequence: bool = False
    realtime: bool = False
    max_age: float = 1.0
    reconnect_seconds: float = 1.0
    timeout: float = 5.0

    def __post_init__(self) -> None:
        if not (0 <= self.width <= LARGEST_SIDE and 0 <= self.height <= LARGEST_SIDE and 0 <= self.fps <= 1000):
            raise ValueError(
                f"width and height of a source go from 0, its own, to {LARGEST_SIDE} and fps to 1000; "
                f"got {self.width}x{self.height} and {self.fps}"
            )
        if (self.width == 0) != (self.height == 0):
            raise ValueError(f"a source needs both width and height, or neither; got {self.width}x{self.height}")
        if self.rotate not in (0, *_TURNS):
            raise ValueError(f"a source is rotated by 0, 90, 180 or 270 degrees; got {self.rotate}")
        for name in ("max_age", "reconnect_seconds", "timeout"):
            if not 0 < getattr(self, name) <= 3600:
                raise ValueError(f"{name} of a source is between 0 and 3600 seconds; got {getattr(self, name)}")


class Source(ABC):
    """Frames, one after the other, until the source ends or is closed.

    Attributes:
        name: Name that is fit to be shown: without credentials.
        kind: What its frames have to do with each other.
        live: Whether frames come whether they are taken or not, so that some are lost.
        notes: Lines on what was left out, or why the source ended early.
    """

    kind: SourceKind
    live: bool

    def __init__(self, name: str, config: SourceConfig) -> None:
        self.name, self.config = name, config
        self.notes: list[str] = []

    @property
    @abstractmethod
    def fps(self) -> float:
        """Frames a second, 0 where it is not known."""

    @property
    @abstractmethod
    def state(self) -> State: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Waits for each frame; of a live source, the newest that was not handed out before.

        Raises:
            ValueError: a file holds no frame at all, or one of a senseless size.
            OSError: a file can no longer be read.
        """

    def frames(self, timeout: float) -> Iterator[Frame | None]:
        """The frames, and `None` each time that none has come for so many seconds.

        Args:
            timeout: Seconds; files are waited for, for they always answer.

        Raises:
            ValueError, OSError: as iterating does.
        """
        del timeout
        yield from self

    @abstractmethod
    def close(self) -> None:
        """Ends all iterations; may be called from any thread, and again."""

    def note(self, line: str) -> None:
        """Keeps a line and says it on stderr, once."""
        if line not in self.notes:
            self.notes.append(line)
            say(line)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.state}>"


def first_seconds(source: Source, seconds: float) -> Iterator[Frame]:
    """The frames of the first seconds of a source, which are waited for as long as its connection may take.

    Args:
        source: Of any kind; a stream that stops ends them too.
        seconds: From the first frame on.

    Raises:
        SourceError: no frame came; the message says how long it was waited for.
        ValueError, OSError: as iterating does.
    """
    patience = 2 * source.config.timeout
    begin, deadline = None, time.monotonic() + patience
    for frame in source.frames(0.2):
        if frame is not None:
            if begin is None:
                begin, deadline = frame.seconds, time.monotonic() + seconds + 1
            if frame.seconds - begin >= seconds:
                return
            yield frame
        if source.live and time.monotonic() > deadline:
            break
    if begin is None:
        raise SourceError(f"{source.name}: no picture came within {patience:.0f} s; is it on, and the address right?")


class StateLines:
    """Tells of a source that comes and goes: once each way in a minute, and then how often.

    Args:
        tell: Says a line.
        clock: Seconds that go on.
    """

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._until, self._said = -math.inf, 0
        self._held, self._last = 0, ""

    def change(self, line: str) -> None:
        """A change of the state, in a line."""
        self.look()
        if self._clock() >= self._until:
            self._until, self._said = self._clock() + QUIET_SECONDS, 0
        self._held, self._last = self._held + 1, line
        if self._said < 2:
            self._said, self._held = self._said + 1, 0
            self._tell(line)

    def look(self) -> None:
        """Tells what was held back, when its time has come."""
        if self._held and self._clock() >= self._until:
            self._tell(f"{self._last} ({self._held} changes in the last {QUIET_SECONDS:.0f} s)")
            self._until, self._said, self._held = self._clock() + QUIET_SECONDS, 2, 0


def rotated(image: Image, degrees: int) -> Image:
    """An image turned clockwise by 0, 90, 180 or 270 degrees."""
    return np.asarray(cv2.rotate(image, _TURNS[degrees])) if degrees else image


def say(line: str) -> None:
    """Tells the user on stderr, on one line and without what could steer a terminal, whatever a file is called."""
    logger.warning("source %s", printable(line))
