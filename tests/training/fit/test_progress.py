"""Progress lines: how far, how fast, how long."""

from __future__ import annotations

import pytest

from slimcam.training.fit.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.21, "3.2 s"), (48.4, "48 s"), (723, "12 min 03 s"), (3900, "1 h 05 min"), (float("inf"), "unknown time")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_a_line_tells_done_total_rate_and_time_left(capsys):
    progress = Progress(10, "counting", unit="images", seconds=0.0, done=4)
    progress.advance(3, "loss 0.5")
    line = capsys.readouterr().err
    assert line.startswith("counting: 7/10 images, loss 0.5, ")
    assert "images/s" in line
    assert line.endswith("left\n")


def test_short_work_prints_nothing(capsys):
    progress = Progress(10, "counting", unit="images", seconds=60.0)
    progress.advance(10)
    progress.close()
    assert capsys.readouterr().err == ""
