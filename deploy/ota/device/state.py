"""What a device remembers of its updates over a loss of power: one small file, replaced durably.

Each change is one replacement of the file, so that the pointer to a slot, the releases that failed and the minimum
version can never disagree.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from slimcam.deploy.ota.durable import make_folder, write_durably

SLOTS = ("a", "b")

STARTS = 3
"""Times that a release may be taken up to get through its health window; the camera crashes once more and it is bad."""

SCHEMA = 1

Phase = Literal["idle", "ready", "trial"]


@dataclass(frozen=True)
class Installed:
    """A release in a slot.

    Attributes:
        slot: Slot of the release, `a` or `b`.
        release: Number of the release.
        manifests: SHA-256 of the manifest of each bundle, by part.
        minimum: Lowest release that may be used once this one is kept.
        slowdown: Percent of the latency before that the release may have.
    """

    slot: str
    release: int
    manifests: dict[str, str]
    minimum: int
    slowdown: int


@dataclass(frozen=True)
class State:
    """What a device remembers.

    Attributes:
        current: Release that was kept last; None for the models that came with the software.
        ready: Release that is staged and checked, for the camera to switch to.
        trial: Release that is in its health window.
        starts: Number of times that the release in its window was taken up.
        minimum: Lowest number of a release that is taken, whatever is signed.
        bad: Reasons why releases failed on this device, by number; they are not tried again.
        attempts: Number of checks of a release that began in a child process, by its number.
        available: Newest release that is offered to this device.
        checked: Unix time of the last successful look at the server.
        error: Reason why the last look or release failed; empty if it did not.
        rollbacks: Number of releases that were tried and not kept.
    """

    current: Installed | None = None
    ready: Installed | None = None
    trial: Installed | None = None
    starts: int = 0
    minimum: int = 0
    bad: dict[int, str] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    available: int | None = None
    checked: int = 0
    error: str = ""
    rollbacks: int = 0

    @property
    def release(self) -> int:
        """The number of the release in use; 0 for the models that came with the software."""
        used = self.trial or self.current
        return 0 if used is None else used.release

    @property
    def phase(self) -> Phase:
        return "trial" if self.trial else "ready" if self.ready else "idle"

    @property
    def free_slot(self) -> str:
        """The slot that nothing in use is in."""
        return next(slot for slot in SLOTS if self.current is None or slot != self.current.slot)


class StateFile:
    """The state of a device's folder. Threads and processes may share it; each change is made under a lock.

    Args:
        folder: Folder of the file; it is made if it is not there.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.path = folder / "state.json"

    def read(self) -> State:
        """
        Raises:
            ValueError: the file is damaged or of a newer slimcam.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return State()
        try:
            record = json.loads(content)
            if record.pop("schema") != SCHEMA:
                raise ValueError(
                    f"{self.path} is of another slimcam; update slimcam, or remove the folder to start again"
                )
            return _state(record)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{self.path} is damaged ({error}); remove the folder to start again") from error

    def change(self, step: Callable[[State], State]) -> State:
        """Replaces the state by what a step makes of it; durable when this returns."""
        with locked(self.path.with_name("state.lock")):
            before = self.read()
            after = step(before)
            if after != before:
                write_durably(self.path, (json.dumps({"schema": SCHEMA, **asdict(after)}, indent=1) + "\n").encode())
            return after


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Holds a lock that ends with the process, however it ends.

    Raises:
        BlockingIOError: another process has it, and `wait` is false.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise BlockingIOError("another update of this device is under way; wait for it to end") from error
        yield


def _state(record: dict[str, Any]) -> State:
    known = {one.name for one in fields(State)}
    if not record.keys() <= known:
        raise KeyError(min(record.keys() - known))
    installed = {
        name: Installed(**record[name]) if record.get(name) else None for name in ("current", "ready", "trial")
    }
    numbered = {name: {int(number): value for number, value in record[name].items()} for name in ("bad", "attempts")}
    return State(**{**record, **installed, **numbered})
