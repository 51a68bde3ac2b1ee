"""One look at the server, and what follows from it: download, staging, trial. The camera switches later.

    python -m slimcam.deploy.ota.device.update

takes a JSON object on the standard input, see `slimcam.deploy.ota.device.settings`.

The camera runs it as a child with low priority: no frame waits for it, and the camera imports nothing of TUF.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from slimcam.deploy.gallery.other_recognizer import obstacle
from slimcam.deploy.inference.interpreter import RUNTIMES
from slimcam.deploy.ota.archive import unpack
from slimcam.deploy.ota.device.client import Client, UpdateRefusedError
from slimcam.deploy.ota.device.fetcher import LimitedFetcher
from slimcam.deploy.ota.device.settings import Settings
from slimcam.deploy.ota.device.slots import Slots, refused
from slimcam.deploy.ota.device.state import State, StateFile, locked
from slimcam.deploy.ota.device.trial import NICE, Request, try_release
from slimcam.deploy.ota.release import PARTS, Release, choose

ATTEMPTS = 5
"""Trials of a release that may end without a verdict, since the power failed for example."""

CLOCK_SLACK = 86_400
"""Seconds that the clock may be behind the last look at the server."""


def update(settings: Settings, tell: Callable[[str], object] = str) -> State:
    """Looks, and makes the newest release ready that this device may take.

    Args:
        tell: Takes lines about what is done.

    What goes wrong is also written into the state, for the camera to show.

    Raises:
        UpdateRefusedError: what the server gives is not believed.
        ConnectionError, OSError: it cannot be reached, or the disk is full.
        ValueError, RuntimeError: the release does not fit this device; the message says what to do.
        BlockingIOError: another process is at it.
    """
    file = StateFile(Path(settings.folder))
    with locked(file.path.with_name("update.lock"), wait=False):
        state = file.read()
        if state.trial is not None:
            tell(f"release {state.trial.release} is in its health window; the next look comes after it")
            return state
        try:
            return _update(settings, file, tell)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            line = " ".join(str(error).split())
            file.change(lambda state: replace(state, error=line))
            raise


def _update(settings: Settings, file: StateFile, tell: Callable[[str], object]) -> State:
    folder, slots = Path(settings.folder), Slots(Path(settings.folder), file)
    state, now = file.read(), int(time.time())
    if now < state.checked - CLOCK_SLACK:
        raise RuntimeError("the clock is behind the last look at the server; set it: it tells what is expired")
    client = Client(settings.url, Path(settings.root).read_bytes(), folder, LimitedFetcher(settings.limit))
    with client.look() as releases:
        release = choose(releases, settings.device, settings.ring, state.release, state.minimum, state.bad)
        number, newest = release.number if release else None, max((one.number for one in releases), default=0)
        error = f"release {newest}: {state.bad[newest]}" if newest in state.bad else ""
        state = file.change(lambda state: replace(state, available=number, checked=now, error=error))
        if releases:
            _refuse_older(newest, state)
        wrong = max(client.problems, default=0)
        if wrong > max(state.release, number or 0):
            raise UpdateRefusedError(client.problems[wrong])
        if release is None or (state.ready is not None and state.ready.release == release.number):
            client.clear()  # an update that broke off may have left downloads
        if release is None:
            used = f"release {state.release}" if state.release else "the models of the software"
            tell(f"nothing newer than {used} is offered to this device")
            return state
        if state.ready is not None and state.ready.release == release.number and not slots.damage(state.ready):
            tell(f"release {release.number} is ready")
            return state
        _check_runtime(release)
        if why := obstacle(settings.gallery, settings.key, release.parts["recognizer"].model):
            raise RuntimeError(f"release {release.number} has another recognizer, and the gallery cannot follow: {why}")
        files = {}
        for part in PARTS:
            tell(f"release {release.number}: {part}")
            files[part] = unpack(client.download(release, part))
    installed = slots.stage(release, files)
    client.clear()
    state = _count_attempt(file, release)
    if release.number in state.bad:
        return state
    tell(f"release {release.number} is staged; trying it")
    current = state.current
    reference = {part: str(slots.bundle(current, part)) if current else getattr(settings, part) for part in PARTS}
    candidate = {part: str(slots.bundle(installed, part)) for part in PARTS}
    if bad := try_release(Request(candidate, reference, release.slowdown)):
        tell(f"release {release.number} is not taken: {bad}")
        return file.change(lambda state: refused(state, release.number, bad))
    tell(f"release {release.number} is ready")
    return slots.ready(installed)


def _refuse_older(newest: int, state: State) -> None:
    lowest = max(state.release, state.minimum)
    if newest < lowest:
        raise UpdateRefusedError(
            f"the server's newest release is {newest}, and this device takes none below {lowest}: an older one is not "
            "taken, however it is signed"
        )


def _check_runtime(release: Release) -> None:
    for package, _ in RUNTIMES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        found = [int(number) for number in re.findall(r"\d+", version)[:3]]
        if found < release.runtime:
            wanted = ".".join(map(str, release.runtime))
            raise RuntimeError(
                f"release {release.number} needs {package} {wanted}, this device has {version}: update it"
            )
        return


def _count_attempt(file: StateFile, release: Release) -> State:
    def counted(state: State) -> State:
        attempts = state.attempts.get(release.number, 0)
        if attempts >= ATTEMPTS:
            return refused(state, release.number, f"{attempts} trials of it came to no end")
        return replace(state, attempts={release.number: attempts + 1})

    return file.change(counted)


def main() -> None:
    """As the camera's child: lines for its user on the standard output, exit code 1 after an error."""
    os.nice(NICE)
    try:
        update(Settings(**json.load(sys.stdin)), lambda line: print(line, flush=True))
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(" ".join(str(error).split()), flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
