"""What a camera shows of its updates."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from slimcam.deploy.ota.device.state import State

Activity = Literal["idle", "looking", "ready", "trial"]

ACTIVITIES: tuple[Activity, ...] = ("idle", "looking", "ready", "trial")


@dataclass(frozen=True)
class UpdateStatus:
    """The state of updates.

    Attributes:
        activity: What the update does: it is `idle` or `looking` at the server, downloads included, or has a release
            `ready` to be switched to, or in its `trial`.
        release: Release in use, or in its trial; 0 for the models of the software.
        available: Newest release that is offered to this device; None if it is the one in use.
        progress: Percent of the health window that is over; None outside of it.
        error: Reason why the last look or release failed; empty if it did not.
        rollbacks: Number of releases that were tried and not kept.
        checked: Unix time of the last successful look; 0 for never.
    """

    activity: Activity = "idle"
    release: int = 0
    available: int | None = None
    progress: int | None = None
    error: str = ""
    rollbacks: int = 0
    checked: int = 0

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def status_of(state: State, looking: bool, progress: int | None) -> UpdateStatus:
    """What a state looks like from outside."""
    offered = state.trial or state.ready
    return UpdateStatus(
        activity="looking" if looking and state.phase == "idle" else state.phase,
        release=state.release,
        available=offered.release if offered else state.available,
        progress=progress,
        error=state.error,
        rollbacks=state.rollbacks,
        checked=state.checked,
    )
