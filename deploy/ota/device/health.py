"""Whether a release is fit for the device it runs on: a decision from what the camera measures, without side effects.

Latency is compared stage by stage with the frames before the switch, since the number of faces changes what a frame
takes. What is recognized is compared pair by pair: the models before see some of the same frames and faces, for other
people may stand before the camera after the switch than before it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.types import Identity

STAGES = ("detect", "embed")
"""Those that a model runs in."""

SLACK_MS = 2.0
"""Beside the percentage: the noise of a busy machine must not end a good release."""

LEAST_SAMPLES = 10
"""Of a stage, of faces or of known people: fewer prove nothing."""

EARLY = 30
"""Frames after which a release that is far too slow is ended."""

LEAST_SHARE = 0.8
"""Of the faces that were found, and of the people who were recognized, by the models before."""


Points = NDArray[np.floating]


class Baseline:
    """The newest frames before a switch.

    Args:
        frames: Number of frames that are kept.
    """

    def __init__(self, frames: int) -> None:
        self._kept: dict[str, deque[float]] = {stage: deque(maxlen=frames) for stage in STAGES}
        self.frames = 0

    def add(self, milliseconds: Mapping[str, float]) -> None:
        """Takes in what the stages of a frame took."""
        self.frames += 1
        for stage in STAGES:
            if stage in milliseconds:
                self._kept[stage].append(milliseconds[stage])

    def p90(self) -> dict[str, float]:
        """Of the stages that have enough samples, in ms."""
        return {
            stage: float(np.percentile(values, 90))
            for stage, values in self._kept.items()
            if len(values) >= LEAST_SAMPLES
        }


class Health:
    """A release in its window.

    Args:
        before: Latencies of the stages before the switch, p90 in ms.
        frames: Frames of the window.
        slowdown: Percent of those latencies that the release may have.
    """

    def __init__(self, before: Mapping[str, float], frames: int, slowdown: int) -> None:
        self._bounds = {stage: (ms, ms * slowdown / 100 + SLACK_MS) for stage, ms in before.items()}
        self._window = frames
        self._spent: dict[str, list[float]] = defaultdict(list)
        self.frames = self._faces_before = self._faces = self._extra = self._known_before = self._same = 0

    @property
    def percent(self) -> int:
        """Of the window that is over."""
        return min(100 * self.frames // self._window, 100)

    def add(self, milliseconds: Mapping[str, float]) -> None:
        """Takes in what the stages of a frame took."""
        self.frames += 1
        for stage in STAGES:
            if stage in milliseconds:
                self._spent[stage].append(milliseconds[stage])

    def add_faces(self, before: Points, now: Points) -> None:
        """Takes in the faces that the two detectors find in one frame, `(N, 5, 2)` each."""
        found = matched(before, now)
        self._faces_before += len(before)
        self._faces += found
        self._extra += len(now) - found

    def add_look(self, before: Identity, now: Identity) -> None:
        """Takes in whom the two recognizers take one face for."""
        if before.known:
            self._known_before += 1
            self._same += before.person == now.person

    def figures(self) -> str:
        """What was measured, as a line."""
        parts = []
        for stage, (before, _) in self._bounds.items():
            if spent := self._spent[stage]:
                parts.append(f"{stage} p90 {np.percentile(spent, 90):.2f} ms (before {before:.2f})")
        parts.append(f"{self._same} of {self._known_before} views of enrolled people recognized as before")
        parts.append(f"{self._faces} of {self._faces_before} faces found as before, {self._extra} others")
        return ", ".join(parts)

    def verdict(self) -> str | None:
        """Why the release is bad; empty if it is to be kept, None as long as that is open."""
        over = self.frames >= self._window
        percentile = 90 if over else 50
        if over or self.frames >= EARLY:
            for stage, (before, bound) in self._bounds.items():
                spent = self._spent[stage]
                if len(spent) >= LEAST_SAMPLES and (found := float(np.percentile(spent, percentile))) > bound:
                    return (
                        f"{stage} takes {found:.2f} ms (p{percentile} of {len(spent)}), {before:.2f} ms (p90) before; "
                        f"at most {bound:.2f} are allowed"
                    )
        for name, found, before in (
            ("faces found", self._faces, self._faces_before),
            ("views of enrolled people recognized", self._same, self._known_before),
        ):
            if over and before >= LEAST_SAMPLES and found < LEAST_SHARE * before:
                return f"{name}: {found} of the {before} of the models before, at least {LEAST_SHARE:.0%} are wanted"
        if over and self._extra > max(self._faces_before, LEAST_SAMPLES):
            return f"{self._extra} faces found where the models before have none, who have {self._faces_before} in all"
        return "" if over else None


def matched(before: Points, now: Points) -> int:
    """How many faces of `(N, 5, 2)` are among those of `(M, 5, 2)`: their points lie within half the distance of the
    eyes on average."""
    if not len(before) or not len(now):
        return 0
    apart = np.linalg.norm(before[:, None] - now[None], axis=3).mean(axis=2)
    eyes = np.linalg.norm(before[:, 0] - before[:, 1], axis=1)
    return int((apart.min(axis=1) < eyes / 2).sum())
