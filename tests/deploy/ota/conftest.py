from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from slimcam.deploy.ota.device.settings import Settings
from slimcam.deploy.ota.device.slots import Slots
from slimcam.deploy.ota.device.state import State, StateFile
from slimcam.deploy.ota.device.update import update
from slimcam.deploy.ota.publisher.keys import PASSPHRASE
from slimcam.deploy.ota.publisher.repository import Repository
from tests.deploy.ota.releases import Server, new_repository, serve, settings


@dataclass
class Device:
    """A device of one repository."""

    settings: Settings

    def __post_init__(self) -> None:
        self.folder = Path(self.settings.folder)
        self.file = StateFile(self.folder)
        self.slots = Slots(self.folder, self.file)

    @property
    def state(self) -> State:
        return self.file.read()

    def look(self) -> State:
        return update(self.settings)

    def take(self) -> State:
        """Looks, switches and keeps."""
        self.look()
        assert self.slots.switch()[0] is not None
        return self.slots.keep()


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "correct horse battery staple")


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk takes milliseconds for each; what they are for is tested by `kill_proof`."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return new_repository(tmp_path)


@pytest.fixture
def server(repository: Repository) -> Iterator[Server]:
    with serve(repository.folder) as server:
        yield server


@pytest.fixture
def make_device(repository: Repository, server: Server, tmp_path: Path) -> Callable[..., Device]:
    def make(name: str = "door", **changes: object) -> Device:
        return Device(settings(repository, server.url, tmp_path / "devices" / name, device=name, **changes))

    return make


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases pass their trial: it is not what is tested."""
    monkeypatch.setattr("slimcam.deploy.ota.device.update.try_release", lambda _request: "")
