"""How fast the camera is just now: percentiles of each stage, and frames a second, over the last seconds."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.types import STAGES, View

PERCENTILES = (50, 90, 99)

RATE_SECONDS = 5.0
"""Over so long frames a second are counted: long enough to be steady, short enough to show a stall."""

_ANSWERED, _RESULT = 0, 1 + STAGES.index("result")


class Latencies:
    """The newest frames of a camera. One thread may add while others ask.

    A frame counts at the time of its answer, which is that of its capture and what the stage `result` took; so `now` is
    in seconds of `time.monotonic()` wherever it is asked for, and a camera that stalls is seen to.

    Args:
        seconds: Length of the window that figures are of.
        frames: Most frames that are kept, 56 bytes each.

    Raises:
        ValueError: one of them is not above 0.
    """

    def __init__(self, seconds: float = 60.0, frames: int = 8192) -> None:
        if not seconds > 0 or frames < 1:
            raise ValueError(f"latencies need a time and a number of frames above 0; got {seconds} and {frames}")
        self.seconds = seconds
        self._table = np.full((frames, 1 + len(STAGES)), np.nan)
        self._frames, self._lost = 0, 0
        self._lock = threading.Lock()

    @property
    def frames(self) -> int:
        """That were added, ever."""
        return self._frames

    @property
    def lost(self) -> int:
        """Frames of the source that were dropped before those added, ever."""
        return self._lost

    def add(self, view: View) -> None:
        spent = [view.milliseconds.get(stage, np.nan) for stage in STAGES]
        answered = view.frame.captured + np.nan_to_num(spent[-1]) / 1000
        with self._lock:
            self._table[self._frames % len(self._table)] = answered, *spent
            self._frames += 1
            self._lost += view.frame.lost

    def summary(self, now: float) -> dict[str, dict[str, float]]:
        """`p50`, `p90`, `p99` in ms, interpolated linearly, and `count` of each stage, in the order of `STAGES`.

        A stage that no frame had is not in it.
        """
        rows = self._since(now - self.seconds)
        figures = {}
        for stage, column in zip(STAGES, rows.T[1:], strict=True):
            values = column[np.isfinite(column)]
            if len(values):
                figures[stage] = {**_percentiles(values), "count": len(values)}
        return figures

    def history(self, now: float, step: float = 1.0) -> list[dict[str, float]]:
        """The stage `result` over time: `age`, seconds before `now` in whole steps, and `p50`, `p90`, `p99` in ms.

        Oldest first; steps without a frame are left out.
        """
        rows = self._since(now - self.seconds)
        rows = rows[np.isfinite(rows[:, _RESULT])]
        ages = np.maximum(np.floor((now - rows[:, _ANSWERED]) / step), 0)
        return [{"age": float(age * step), **_percentiles(rows[ages == age, _RESULT])} for age in np.unique(ages)[::-1]]

    def rate(self, now: float) -> float:
        """Frames a second that were answered in the last `RATE_SECONDS`."""
        answered = self._since(now - min(RATE_SECONDS, self.seconds))[:, _ANSWERED]
        if len(answered) < 2:
            return 0.0
        return float((len(answered) - 1) / max(now - answered.min(), 1e-6))

    def _since(self, start: float) -> NDArray[np.float64]:
        """Rows of the frames answered later than that: when, and what each stage took."""
        with self._lock:
            kept = self._table[: self._frames]
            return kept[kept[:, _ANSWERED] > start]


def _percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    return {f"p{p}": round(float(v), 3) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}
