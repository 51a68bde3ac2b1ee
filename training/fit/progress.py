"""Progress of long work, as lines on standard error."""

from __future__ import annotations

import sys
import time


class Progress:
    """Prints how far a counted piece of work is, how fast it goes and the time left.

    Args:
        total: units of work in all.
        title: what is being done.
        unit: what is counted.
        seconds: time between two lines.
        done: units done before, by an earlier process.
    """

    def __init__(self, total: int, title: str, *, unit: str, seconds: float = 10.0, done: int = 0) -> None:
        self.total, self.title, self.unit, self.seconds = total, title, unit, seconds
        self.done = self._start_done = done
        self._start = self._printed = time.monotonic()

    def advance(self, units: int, note: str = "") -> None:
        """Counts finished units and prints a line when one is due."""
        self.done += units
        if time.monotonic() - self._printed >= self.seconds:
            self.show(note)

    def show(self, note: str = "") -> None:
        """Prints a line now."""
        self._printed = time.monotonic()
        rate = (self.done - self._start_done) / max(self._printed - self._start, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        parts = [f"{self.title}: {self.done}/{self.total} {self.unit}", note, f"{rate:.1f} {self.unit}/s"]
        parts.append(f"{duration(left)} left")
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Prints the last line, if the work took long enough for a first one."""
        if time.monotonic() - self._start >= self.seconds:
            self.show()


def duration(seconds: float) -> str:
    """Seconds as people say them: `1 h 05 min`, `12 min 03 s`, `48 s` or `3.2 s`."""
    if seconds == float("inf"):
        return "unknown time"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
