"""What the camera tells its user is on stderr, as in its application."""

from __future__ import annotations

import pytest

from slimcam.deploy.common.console import log_to_console


@pytest.fixture(autouse=True)
def _console() -> None:
    log_to_console()
