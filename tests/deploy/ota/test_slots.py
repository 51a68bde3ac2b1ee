from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slimcam.deploy.ota.device.state import STARTS, State, StateFile
from slimcam.deploy.ota.publisher.repository import Repository
from tests.deploy.ota.conftest import Device
from tests.deploy.ota.releases import publish

pytestmark = pytest.mark.usefixtures("no_trial")


@pytest.fixture
def device(repository: Repository, make_device: Callable[..., Device]) -> Device:
    """With release 1 in use and release 2 ready."""
    publish(repository)
    device = make_device()
    device.take()
    publish(repository)
    device.look()
    return device


def test_slots_take_turns(device: Device, repository: Repository) -> None:
    found = [device.state.current, device.state.ready]
    device.slots.switch()
    device.slots.keep()
    publish(repository)
    found.append(device.look().ready)
    assert [one and one.slot for one in found] == ["a", "b", "a"]
    assert [one and one.release for one in found] == [1, 2, 3]


def test_what_is_kept_raises_the_minimum(device: Device) -> None:
    device.slots.switch()
    state = device.slots.keep()
    assert (state.release, state.minimum, state.phase) == (2, 2, "idle")


def test_a_release_that_failed_is_not_tried_again(device: Device, repository: Repository) -> None:
    device.slots.switch()
    state = device.slots.roll_back("worse on enrolled people")
    assert (state.release, state.phase, state.rollbacks) == (1, "idle", 1)
    assert state.bad == {2: "worse on enrolled people"}
    state = device.look()
    assert (state.ready, state.available, state.error) == (None, None, "release 2: worse on enrolled people")
    publish(repository)
    assert device.look().available == 3


def test_a_release_that_ends_the_camera_again_and_again_is_rolled_back(device: Device) -> None:
    for _ in range(STARTS):
        assert device.slots.switch()[0] is not None
    assert device.slots.switch() == (None, f"release 2: the camera ended {STARTS} times in its health window")
    assert device.state.release == 1


def test_a_camera_that_is_ended_by_its_user_says_nothing_about_the_release(device: Device) -> None:
    for _ in range(2 * STARTS):
        assert device.slots.switch()[0] is not None
        device.slots.stop()
    assert device.state.starts == 0


def test_nothing_is_staged_while_a_release_is_in_its_window(device: Device, repository: Repository) -> None:
    device.slots.switch()
    publish(repository)
    state = device.look()
    assert state.trial is not None
    assert not device.slots.damage(state.trial)
    assert state.ready is None


@pytest.mark.parametrize("name", ["bundle.json", "model.tflite", "golden.npz"])
def test_a_damaged_slot_is_never_used(name: str, device: Device) -> None:
    ready, current = device.state.ready, device.state.current
    assert ready is not None
    assert current is not None
    for installed in (ready, current):
        file = device.slots.bundle(installed, "recognizer") / name
        file.write_bytes(file.read_bytes()[:-1])
    trial, why = device.slots.switch()
    assert trial is None
    assert "release 2" in why
    state, told = device.slots.start()
    assert state.current is None
    assert "release 1 is damaged, the models of the software are used" in told


def test_a_whole_bundle_that_is_not_the_verified_one_is_not_used(device: Device) -> None:
    state = device.state
    assert state.ready is not None
    other = replace(state.ready, manifests={**state.ready.manifests, "detector": "0" * 64})
    assert "is not the one that was verified" in device.slots.damage(other)


def test_a_new_device_has_a_state_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "new")
    assert file.read() == State()
    changed = file.change(lambda state: replace(state, bad={3: "slow"}, attempts={3: 1}, minimum=2))
    assert file.read() == changed
    for content in ("", "{", "[]", json.dumps({"schema": 1, "unknown": 1})):
        file.path.write_text(content)
        with pytest.raises(ValueError, match="is damaged"):
            file.read()
    file.path.write_text(json.dumps({"schema": 2}))
    with pytest.raises(ValueError, match="of another slimcam"):
        file.read()
