"""Whether frames come from the source, and since when they do not."""

from __future__ import annotations

import time

from slimcam.deploy.camera.sources.source import Source
from slimcam.deploy.types import Frame, SourceStatus

POLL_SECONDS = 0.25
"""So often it is looked whether a source without frames is lost."""


class SourceWatch:
    """Follows the state of a source by its frames and the clock; used in one thread.

    A stream counts as lost as soon as its reader says so, and also when no frame has come for longer than its reader
    may take to notice: a driver may hang for ever.

    Args:
        source: The source; files are never lost.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._patience = source.config.timeout + 2 / (source.config.fps or 10.0)
        self._captured: float | None = None
        self.status = SourceStatus("connecting", time.time(), str(source.kind))

    def look(self, frame: Frame | None) -> SourceStatus | None:
        """Takes in the newest frame, or that there is none.

        Returns:
            The state of the source where it has changed.
        """
        if frame is not None:
            self._captured = frame.captured
            return self._become("connected", time.time())
        if self._source.state == "ended":
            return self.end()
        if self._captured is None:
            return None
        waited = time.monotonic() - self._captured
        if self._source.live and (self._source.state == "reconnecting" or waited > self._patience):
            return self._become("lost", time.time() - waited)
        return None

    def end(self) -> SourceStatus | None:
        """The source has ended, or the camera leaves it."""
        return self._become("ended", time.time())

    def _become(self, state: str, since: float) -> SourceStatus | None:
        if state == self.status.state:
            return None
        self.status = SourceStatus(state, since, self.status.kind)
        return self.status
