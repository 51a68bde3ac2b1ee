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

from deploy.inference.bundle import MANIFEST, load_bundle
from deploy.ota.device.state import STARTS, Installed, State, StateFile
from deploy.ota.durable import make_folder, remove_folder, write_folder_durably
from deploy.ota.release import PARTS, Release


class Slots:
    """The slots of a device.

    Args:
        folder: of the device.
        file: its state.
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
            files: of each bundle, by part.

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

    def switch(self) -> Installed | None:
        """Takes up the release that is ready, if there is one: its window begins."""

        def begin(state: State) -> State:
            if state.ready is None or state.trial is not None:
                return state
            return replace(state, trial=state.ready, ready=None, starts=1)

        before = self.file.read().trial
        trial = self.file.change(begin).trial
        return trial if trial != before else None

    def keep(self) -> State:
        """The release got through its window."""

        def kept(state: State) -> State:
            if state.trial is None:
                return state
            minimum = max(state.minimum, state.trial.minimum, state.trial.release)
            return replace(state, current=state.trial, trial=None, starts=0, minimum=minimum, error="")

        return self.file.change(kept)

    def roll_back(self, reason: str) -> State:
        """The release failed in its window: the one before is current still, and this one is not tried again."""

        def failed(state: State) -> State:
            if state.trial is None:
                return state
            return replace(
                refused(state, state.trial.release, reason), trial=None, starts=0, rollbacks=state.rollbacks + 1
            )

        return self.file.change(failed)

    def start(self) -> tuple[State, str]:
        """The state that a camera starts with, and what there is to tell of it.

        A release in its window begins it anew, `STARTS` times in all; one whose slot is damaged, or that crashed the
        camera more often, is rolled back. Where the current one is damaged, the models of the software are used.
        """
        told = ""
        switched = self.switch()
        state = self.file.read()
        if state.trial is not None and switched is None:
            if damage := self.damage(state.trial):
                told = damage
            elif state.starts >= STARTS:
                told = f"the camera ended {STARTS} times in its health window"
            if told:
                told = f"release {state.trial.release} is rolled back: {told}"
                state = self.roll_back(told.partition(": ")[2])
            else:
                state = self.file.change(lambda state: replace(state, starts=state.starts + 1))
        if state.current is not None and (damage := self.damage(state.current)):
            told = f"release {state.current.release} is damaged, the models of the software are used: {damage}"
            state = self.file.change(lambda state: replace(state, current=None, error=told))
        return state, told

    def stop(self) -> None:
        """The camera ends of its own accord: that is no crash of the release in its window."""
        self.file.change(lambda state: replace(state, starts=max(state.starts - 1, 0)) if state.trial else state)


def refused(state: State, release: int, reason: str) -> State:
    """The state in which a release is bad."""
    return replace(state, bad={**state.bad, release: reason}, error=f"release {release}: {reason}")
