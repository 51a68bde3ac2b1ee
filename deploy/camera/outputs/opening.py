"""Opens the outputs that are asked for, and keeps what fails in one of them from the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from slimcam.deploy.camera.outputs.config import OutputsConfig
from slimcam.deploy.camera.outputs.output import tell
from slimcam.deploy.common.messages import one_line
from slimcam.deploy.ota.device.status import UpdateStatus
from slimcam.deploy.types import Notice, Output, View

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until an output that failed is tried again: the first time, and at the most; they double."""

Status = Callable[[], UpdateStatus] | None
"""What the camera says of its updates; `None` where there are none."""


def open_outputs(config: OutputsConfig, fps: float, source: str = "", update: Status = None) -> list[Output]:
    """Opens what is asked for. A library is imported for its output alone.

    One that fails later, for want of space for example, says so and is tried again; the others and the camera go on.

    Args:
        config: Outputs that are asked for.
        fps: Frames a second of the source, for a video file.
        source: The source as it was asked for, which an id is made of.
        update: Gives the state of updates; called with each frame. `None` where there are none.

    Raises:
        ValueError, OSError, RuntimeError, ImportError: one cannot be opened; those open already are closed again.
    """
    outputs: list[Output] = []
    try:
        for name, opened in _opened(config, fps, source, update):
            outputs.append(Contained(name, opened))
    except BaseException:
        close_all(outputs)
        raise
    return outputs


def close_all(outputs: list[Output]) -> None:
    """Closes outputs, the last one first, all of them even if one raises."""
    if outputs:
        try:
            outputs[-1].close()
        finally:
            close_all(outputs[:-1])


class Contained:
    """An output whose failure is its own: it is opened again after a while, and what it missed is counted and told.

    Args:
        name: Name of the output, in lines to the user.
        opened: Opens it. It, and what it opens, may raise OSError, ValueError and RuntimeError; `Stop` goes through.
        clock: Seconds that go on, as `time.monotonic()`.

    Raises:
        OSError, ValueError, RuntimeError, ImportError: it cannot be opened now, at the start.
    """

    def __init__(self, name: str, opened: Callable[[], Output], clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self._opened, self._clock = name, opened, clock
        self._output: Output | None = opened()
        self._failing = False
        self._pause, self._retry = FIRST_PAUSE, 0.0
        self._frames = self._events = 0

    def show(self, view: View) -> None:
        self._do(lambda output: output.show(view), 1, len(view.events))

    def notice(self, notice: Notice) -> None:
        self._do(lambda output: output.notice(notice), 0, len(notice.events))

    def close(self) -> None:
        self._close()
        if self._failing:
            tell(f"{self.name}: {self._lost()}")

    def _do(self, step: Callable[[Output], None], frames: int, events: int) -> None:
        if self._output is None and self._clock() >= self._retry:
            self._succeeds(self._open)
        output = self._output
        if output is not None and self._succeeds(lambda: step(output)):
            if self._failing:
                tell(f"{self.name}: goes on; {self._lost()}")
                self._failing, self._pause, self._frames, self._events = False, FIRST_PAUSE, 0, 0
            return
        self._frames, self._events = self._frames + frames, self._events + events
        if output is not None:
            self._close()
        if self._output is None and self._clock() >= self._retry:
            self._retry = self._clock() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _open(self) -> None:
        self._output = self._opened()

    def _close(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            self._succeeds(output.close)

    def _lost(self) -> str:
        return f"{self._frames:,} frames and {self._events:,} events did not get there"

    def _succeeds(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except (OSError, ValueError, RuntimeError) as error:
            # Told once, however often it is tried.
            if not self._failing:
                tell(f"{self.name}: {one_line(error)}; it is tried again")
            self._failing = True
            return False
        return True


def _opened(
    config: OutputsConfig, fps: float, source: str, update: Status
) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Names of the outputs that are asked for, and what opens each."""
    if config.metrics.port is not None:
        from slimcam.deploy.camera.outputs.metrics import Metrics

        yield "metrics", lambda: Metrics(config.metrics, update)
    if config.lines is not None:
        from slimcam.deploy.camera.outputs.lines import Lines

        yield "lines", lambda: Lines(str(config.lines), config.lines_of)
    if config.video is not None:
        from slimcam.deploy.camera.outputs.video import Video, numbered, video_rate

        names = numbered(Path(str(config.video)))
        yield "video", lambda: Video(str(next(names)), config.video_fps or video_rate(fps))
    if config.window:
        from slimcam.deploy.camera.outputs.window import Window

        yield "window", Window
    if config.mqtt.host is not None:
        from slimcam.deploy.camera.outputs.mqtt import Mqtt

        yield "mqtt", lambda: Mqtt(config.mqtt, source, update)
