"""Results of stages on disk, addressed by what made them.

`ROOT/<stage>/<key>/` holds the result files of one stage and `stage.json`, the receipt, which is written last. While a
stage is at work its files live in `ROOT/<stage>/<key>.partial/`: `out/` becomes the result, `work/` survives a kill.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimcam.deploy.common.files import file_sha256, write_text

RECEIPT = "stage.json"

logger = logging.getLogger(__name__)

# The worker of a killed run notices at once that it is alone, but needs a moment to let go of the lock: no wait to
# speak of.
LOCK_PATIENCE_SECONDS = 3.0


@dataclass(frozen=True)
class Slot:
    """The place of one stage's result in the store, there or not."""

    final: Path

    @property
    def partial(self) -> Path:
        return self.final.with_name(self.final.name + ".partial")

    @property
    def out(self) -> Path:
        return self.partial / "out"

    @property
    def work(self) -> Path:
        return self.partial / "work"

    @property
    def error_log(self) -> Path:
        return self.partial / "error.log"

    @property
    def lock(self) -> Path:
        return self.final.with_name(f".{self.final.name}.lock")


def key_of(facts: Mapping[str, Any]) -> str:
    """The address of a result: 16 hexadecimal digits of the SHA-256 of everything that it depends on."""
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def slot(root: Path, stage: str, key: str) -> Slot:
    return Slot(root / stage / key)


def read_receipt(place: Slot) -> dict[str, Any] | None:
    """The receipt of a finished result, or `None` where there is none or one of its files is gone or cut short."""
    try:
        receipt: dict[str, Any] = json.loads((place.final / RECEIPT).read_text())
        complete = "made_of" in receipt and all(
            (place.final / name).stat().st_size == file["bytes"] for name, file in receipt["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return receipt if complete else None


def content_digest(receipt: Mapping[str, Any] | None) -> str | None:
    """A digest of the files of a result, from its receipt."""
    return None if receipt is None else key_of(receipt["files"])


@contextmanager
def claim(place: Slot) -> Iterator[int]:
    """Holds the only right to write to a slot; gives the lock's file descriptor, which keeps it while it is open.

    Another run may be at work there, a member of the same sweep that needs the same result: this one waits for it, and
    says so.
    """
    stage, told = place.final.parent.name, time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        with alone(place.lock) as lock:
            if lock is not None:
                yield lock
                return
        if time.monotonic() > told:
            logger.info(f"{stage}  waits for {_holder(place.lock)}, which is at work on it; stop that one, or this one")
            told = math.inf
        time.sleep(0.1)


@contextmanager
def alone(path: Path) -> Iterator[int | None]:
    """Locks a file, and writes there who has it; gives its descriptor, or none where another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} of {platform.node()}")
        file.flush()
        yield file.fileno()


def _holder(lock: Path) -> str:
    return f"another slimcam ({lock.read_text() or 'unknown'})"


def prepare(place: Slot) -> bool:
    """Makes an empty `out/` and a `work/`; tells whether an earlier, unfinished run left work to go on from."""
    shutil.rmtree(place.out, ignore_errors=True)
    place.out.mkdir(parents=True)
    place.work.mkdir(exist_ok=True)
    place.error_log.unlink(missing_ok=True)
    return any(place.work.iterdir())


def publish(place: Slot, receipt: Mapping[str, Any]) -> None:
    """Turns `out/` into the result: adds the receipt, moves the folder into place in one step, drops the scratch."""
    files = {
        path.relative_to(place.out).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(place.out.rglob("*"))
        if path.is_file()
    }
    write_text(place.out / RECEIPT, json.dumps({**receipt, "files": files}, indent=2) + "\n")
    if place.final.exists():  # without a valid receipt, or this stage would not have run
        shutil.rmtree(place.final)
    place.out.replace(place.final)
    shutil.rmtree(place.partial, ignore_errors=True)
