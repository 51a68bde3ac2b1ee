"""What every output may do: end the camera, and say a line to its user."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class Stop(Exception):  # noqa: N818 - an answer, not an error
    """Raised by `Output.show` when whoever looked has had enough: the camera is to end, without an error."""


def tell(line: str, level: int = logging.WARNING) -> None:
    """A line for the camera's user, see `slimcam.deploy.common.console`."""
    logger.log(level, "slimcam-camera: %s", line)
