"""Sources that do not wait: one thread reads, and who asks gets the newest frame."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from slimcam.deploy.camera.sources.source import Source, SourceConfig, SourceKind, State, StateLines, rotated, say
from slimcam.deploy.types import Frame
from slimcam.deploy.vision.image_files import Image

_CLOSING_SECONDS = 2.0
"""How long closing waits for the reader. One that is held up in a driver ends with the process."""

_FIRST_PAUSE = 0.25


class LiveSource(Source):
    """Hands out the newest frame that its reader thread got.

    The reader starts with the constructor, so that subclasses call it last.
    """

    kind = SourceKind.live
    live = True

    def __init__(self, name: str, config: SourceConfig) -> None:
        super().__init__(name, config)
        self._state: State = "connecting"
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._newest: Frame | None = None
        self._taken = -1
        self._failure: Exception | None = None
        self._lines = StateLines(lambda line: say(f"{self.name}: {line}"))
        self._reader = threading.Thread(target=self._read, name=f"source {name}", daemon=True)
        self._reader.start()

    @property
    def state(self) -> State:
        return self._state

    def __iter__(self) -> Iterator[Frame]:
        while True:
            frame = self.read_latest()
            if frame is None:
                return
            yield frame

    def read_latest(self, max_age: float | None = None, timeout: float | None = None) -> Frame | None:
        """The newest frame, which is waited for where it was handed out before or is too old.

        Args:
            max_age: Most seconds since its capture; those of the config by default.
            timeout: Seconds to wait; as long as the source lasts by default.

        Returns:
            `None` where none came in time or the source has ended, see `state`.

        Raises:
            ValueError, OSError: a file that is played cannot be read on.
        """
        oldest = self.config.max_age if max_age is None else max_age
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._closed.is_set():
                frame, self._newest = self._newest, None
                now = time.monotonic()
                if frame is not None and now - frame.captured <= oldest:
                    lost, self._taken = frame.number - self._taken - 1, frame.number
                    return replace(frame, lost=lost)
                if self._state == "ended":
                    if self._failure is not None:
                        raise self._failure
                    return None
                if deadline is not None and now >= deadline:
                    return None
                self._changed.wait(None if deadline is None else deadline - now)
        return None

    def frames(self, timeout: float) -> Iterator[Frame | None]:
        while True:
            ended = self._state == "ended"  # looked at before: the last frame comes before the end
            frame = self.read_latest(timeout=timeout)
            if frame is None and ended:
                return
            yield frame

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            self._state = "ended"
            self._newest = None
            self._changed.notify_all()
        if self._reader is not threading.current_thread():
            self._reader.join(_CLOSING_SECONDS)

    @abstractmethod
    def _pictures(self) -> Iterator[tuple[Image, float | None]]:
        """Images, turned as is wished, as they come, and their seconds in a clip; run by the reader until closed."""

    def _become(self, state: State, line: str = "") -> None:
        with self._changed:
            if self._closed.is_set() or self._state == state:
                return
            self._state = state
            self._changed.notify_all()
        if line:
            self._lines.change(line)

    def _read(self) -> None:
        number, first = 0, 0.0
        pictures = self._pictures()
        try:
            for image, seconds in pictures:
                captured = time.monotonic()
                first = first if number else captured
                frame = Frame(image, number, captured - first if seconds is None else seconds, captured)
                number += 1
                with self._changed:
                    if self._closed.is_set():
                        return
                    self._newest = frame
                    self._changed.notify_all()
        except Exception as error:  # whatever it is, who waits for frames has to learn of it
            self._failure = error
        finally:
            pictures.close()  # type: ignore[attr-defined]  # a generator: closes what it has open
            self._become("ended")


class StreamEnd(Exception):  # noqa: N818 - no error
    """Raised by `Stream.read` where there is no more to come, as at the end of a file."""


class Stream(Protocol):
    """A camera that is open."""

    @property
    def fps(self) -> float: ...

    def read(self) -> Image | None: ...

    def close(self) -> None: ...


class Camera(LiveSource):
    """A camera that is opened again, as often as it takes, when it is lost.

    Args:
        connect: Opens the camera, raising OSError or ValueError where that fails.
        stream: Camera that is open already; without one, reaching it is left to the reader.
    """

    def __init__(
        self, name: str, connect: Callable[[], Stream], config: SourceConfig, stream: Stream | None = None
    ) -> None:
        self._connect, self._first = connect, stream
        self._fps = stream.fps if stream is not None else 0.0
        super().__init__(name, config)

    @property
    def fps(self) -> float:
        return self._fps

    def _pictures(self) -> Iterator[tuple[Image, float | None]]:
        stream, self._first = self._first, None
        delays = pauses(self.config.reconnect_seconds)
        while not self._closed.is_set():
            why = "the stream broke off"
            self._lines.look()
            try:
                if stream is None:
                    stream = self._connect()
                self._fps = stream.fps
                while not self._closed.is_set() and (image := stream.read()) is not None:
                    delays = pauses(self.config.reconnect_seconds)
                    self._lines.look()
                    self._become("running", "back" if self._state == "reconnecting" else "")
                    yield rotated(image, self.config.rotate), None
            except StreamEnd:
                if not self.config.loop:
                    return
                continue
            except (OSError, ValueError) as error:
                why = str(error).removeprefix(f"{self.name}: ")
            finally:
                if stream is not None:
                    stream.close()
                    stream = None
            self._become("reconnecting", f"{why}; trying again until it is there")
            self._closed.wait(next(delays))


class Paced(LiveSource):
    """A file, played as a camera would deliver it."""

    def __init__(self, file: Source) -> None:
        self._file, self.kind = file, file.kind
        super().__init__(file.name, file.config)
        self.notes = file.notes

    @property
    def fps(self) -> float:
        return self._file.fps

    def close(self) -> None:
        self._file.close()
        super().close()

    def _pictures(self) -> Iterator[tuple[Image, float | None]]:
        begin = time.monotonic()
        for frame in self._file:
            if self._closed.wait(begin + frame.seconds - time.monotonic()):
                return
            self._become("running")
            yield frame.image, frame.seconds


def pauses(longest: float) -> Iterator[float]:
    """Seconds to wait before each attempt to reach a camera: from 1/4 on, doubled up to the longest, without end."""
    pause = _FIRST_PAUSE
    while True:
        yield min(pause, longest)
        pause = min(2 * pause, longest)
