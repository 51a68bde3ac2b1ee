"""Two slots with a release each, and how the state goes from one to the other. No change of the state leaves it without
a whole, verified model: a slot is written when nothing refers to it, and referred to when it is durable.

    idle -- staged --> ready -- switched --> trial -- kept --> idle
                                                \\-- failed --> idle, and the release is bad
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from slimcam.deploy.inference.bundle import MANIFEST, load_bundle
from slimcam.deploy.ota.device.state import STARTS, Installed, State, StateFile
from slimcam.deploy.ota.durable import make_folder, remove_folder, write_folder_durably
from slimcam.deploy.ota.release import PARTS, Release


class Slots:
    """The slots of a device.

    Args:
        folder: Folder of the device's slots and state.
        file: State of the device.
    """

    def __init__(self, folder: Path, file: StateFile) -> None:
        self.folder, self.file = folder, file

    def bundle(self, installed: Installed, part: str) -> Path:
        """The folder of a release's bundle."""
        return self.folder / f"slot-{installed.slot}" / part

    def damage(self, installed: Installed) -> str:
        """What is wrong with a release in its slot; empty if it is whole and the one that was verified."""
        for part in PARTS:
            folder = self.bundle(installed, part)
            try:
                load_bundle(folder)
                found = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
            except (OSError, ValueError) as error:
                return str(error)
            if found != installed.manifests.get(part):
                return f"bundle {folder} is not the one that was verified"
        return ""

    def stage(self, release: Release, files: Mapping[str, Mapping[str, bytes]]) -> Installed:
        """Writes a release into the free slot; it is durable and whole when this returns. Nothing refers to it yet.

        Args:
            files: Files of each bundle, by part.

        Raises:
            RuntimeError: a release is in its window, or another process took one up.
            ValueError: what was written is not what is signed.
            OSError: there is no space, for example.
        """

        def release_slot(state: State) -> State:
            if state.trial is not None:
                raise RuntimeError(f"release {state.trial.release} is being tried; the next one waits for it")
            return replace(state, ready=None)

        state = self.file.change(release_slot)
        installed = Installed(
            state.free_slot,
            release.number,
            {name: part.manifest for name, part in release.parts.items()},
            release.minimum,
            release.slowdown,
        )
        slot = self.folder / f"slot-{installed.slot}"
        remove_folder(slot)
        make_folder(slot)
        for part in PARTS:
            write_folder_durably(slot / part, files[part])
        if damage := self.damage(installed):
            remove_folder(slot)
            raise ValueError(f"release {release.number}: {damage}")
        return installed

    # The state's changes

    def ready(self, installed: Installed) -> State:
        """The release is checked: the camera may switch to it."""
        return self.file.change(lambda state: replace(state, ready=installed, error=""))

    def switch(self) -> tuple[Installed | None, str]:
        """Takes up the release that is ready or that a camera which ended had in its window; durable before the swap.

        A release may be taken up `STARTS` times: one that ends the camera more often, or whose slot is damaged, is
        rolled back.

        Returns:
            The release whose window begins, or why there is none.
        """
        state = self.file.read()
        taken = state.trial or state.ready
        if taken is None:
            return None, ""
        damage = self.damage(taken)

        def begin(state: State) -> State:
            if (state.trial or state.ready) != taken:
                return state  # another process was quicker
            state = replace(state, trial=taken, ready=None)
            if damage:
                return _failed(state, damage)
            if state.starts >= STARTS:
                return _failed(state, f"the camera ended {STARTS} times in its health window")
            return replace(state, starts=state.starts + 1)

        state = self.file.change(begin)
        return (taken, "") if state.trial == taken else (None, state.error)

    def keep(self) -> State:
        """The release got through its window."""

        def kept(state: State) -> State:
            if state.trial is None:
                return state
            minimum = max(state.minimum, state.trial.minimum, state.trial.release)
            return replace(state, current=state.trial, trial=None, starts=0, minimum=minimum, error="")

        return self.file.change(kept)

    def roll_back(self, reason: str, bad: bool = True) -> State:
        """The release is not kept: the one before is current still.

        Args:
            bad: Whether it is the release's fault, so that it is not tried again.
        """

        def back(state: State) -> State:
            if state.trial is None:
                return state
            if bad:
                return _failed(state, reason)
            return replace(state, trial=None, starts=0, error=f"release {state.trial.release}: {reason}")

        return self.file.change(back)

    def start(self) -> tuple[State, str]:
        """The state that a camera starts with, and what there is to tell of it.

        It always starts with the current release; where that is damaged, with the models of the software.
        """
        state = self.file.read()
        if state.current is None or not (damage := self.damage(state.current)):
            return state, ""
        told = f"release {state.current.release} is damaged, the models of the software are used: {damage}"
        return self.file.change(lambda state: replace(state, current=None, error=told)), told

    def stop(self) -> None:
        """The camera ends of its own accord: that is no crash of the release in its window."""
        self.file.change(lambda state: replace(state, starts=max(state.starts - 1, 0)) if state.trial else state)


def refused(state: State, release: int, reason: str) -> State:
    """The state in which a release is bad."""
    return replace(state, bad={**state.bad, release: reason}, error=f"release {release}: {reason}")


def _failed(state: State, reason: str) -> State:
    assert state.trial is not None
    state = refused(state, state.trial.release, reason)
    return replace(state, trial=None, starts=0, rollbacks=state.rollbacks + 1)
