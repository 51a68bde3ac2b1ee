"""What the soak tells of its minutes."""

from __future__ import annotations

import pytest

from tests.deploy.camera.soak import slopes


def test_growth_is_told_for_an_hour() -> None:
    minutes = [{"s": 60 * i, "rss_mb": 100 + 0.1 * i + 9 * (i < 5), "files": 15, "threads": 9} for i in range(60)]
    grown = slopes(minutes)
    assert grown["second_half"] == {"rss_mb": pytest.approx(6), "files": 0, "threads": 0}
    assert grown["all"]["rss_mb"] < 6
    assert slopes(minutes[:1]) == {}
