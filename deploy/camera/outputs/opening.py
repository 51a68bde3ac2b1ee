"""Opens the outputs that are asked for, and keeps what fails in one of them from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deploy.camera.outputs.config import OutputsConfig
from deploy.camera.outputs.output import tell
from deploy.ota.device.status import UpdateStatus
from deploy.types import Output, View

Status = Callable[[], UpdateStatus] | None
"""What the camera says of its updates; `None` where there are none."""


def open_outputs(config: OutputsConfig, fps: float, update: Status = None) -> list[Output]:
    """Opens what is asked for. A library is imported for its output alone.

    One that fails later, for want of space for example, tells so on stderr and is off; the others and the camera go on.

    Args:
        config: which.
        fps: frames a second of a video file.
        update: the state of updates; called with each frame.

    Raises:
        ValueError, OSError, RuntimeError, ImportError: one cannot be opened; those open already are closed again.
    """
    outputs: list[Output] = []
    try:
        for name, opened in _opened(config, fps, update):
            outputs.append(Contained(name, opened()))
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
    """An output whose failure is a line on stderr and the end of it alone.

    Args:
        name: of it, in that line.
        output: may raise OSError, ValueError and RuntimeError; `Stop` goes through.
    """

    def __init__(self, name: str, output: Output) -> None:
        self.name, self.output = name, output
        self.failed = False

    def show(self, view: View) -> None:
        if not self.failed and not self._succeeds(lambda: self.output.show(view)):
            self.failed = True
            self._succeeds(self.output.close)

    def close(self) -> None:
        if not self.failed:
            self._succeeds(self.output.close)

    def _succeeds(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except (OSError, ValueError, RuntimeError) as error:
            tell(f"{self.name} ends: {' '.join(str(error).split())}")
            return False
        return True


def _opened(config: OutputsConfig, fps: float, update: Status) -> Iterator[tuple[str, Callable[[], Output]]]:
    """Names of the outputs that are asked for, and what opens each."""
    if config.metrics.port is not None:
        from deploy.camera.outputs.metrics import Metrics

        yield "metrics", lambda: Metrics(config.metrics, update)
    if config.lines is not None:
        from deploy.camera.outputs.lines import Lines

        yield "lines", lambda: Lines(str(config.lines), config.lines_of)
    if config.video is not None:
        from deploy.camera.outputs.video import Video

        yield "video", lambda: Video(str(config.video), fps)
    if config.window:
        from deploy.camera.outputs.window import Window

        yield "window", Window
    if config.mqtt.host is not None:
        from deploy.camera.outputs.mqtt import Mqtt

        yield "mqtt", lambda: Mqtt(config.mqtt, update)
