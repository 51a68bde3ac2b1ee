"""A look at the server: what is downloaded when, what the trial in a child process finds, what waits."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.gallery.crops import encode_crop
from slimcam.deploy.gallery.gallery import Gallery, Template
from slimcam.deploy.inference.bundle import DETECTOR, RECOGNIZER, load_bundle
from slimcam.deploy.inference.model import BundledModel
from slimcam.deploy.ota.device.client import LimitedFetcher
from slimcam.deploy.ota.device.state import locked
from slimcam.deploy.ota.device.trial import Request, try_release, verdict
from slimcam.deploy.ota.device.update import ATTEMPTS
from slimcam.deploy.ota.publisher.repository import Repository
from tests.deploy.ota.conftest import Device
from tests.deploy.ota.releases import Server, crashing, publish, variant

REFERENCE = {"detector": str(DETECTOR), "recognizer": str(RECOGNIZER)}


def test_a_release_that_is_fine_passes_its_trial() -> None:
    assert try_release(Request(REFERENCE, REFERENCE, 10_000)) == ""


def test_a_model_that_crashes_the_runtime_ends_the_child_alone(
    repository: Repository, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    publish(repository, crashing(RECOGNIZER, tmp_path / "crashing").path)
    device = make_device()
    state = device.look()
    assert state.bad == {1: "it crashed the runtime (SIGABRT)"}
    assert (state.phase, state.release) == ("idle", 0)


def test_a_model_whose_golden_vectors_do_not_come_out_is_bad(tmp_path: Path) -> None:
    bundle = load_bundle(RECOGNIZER)
    wrong = variant(RECOGNIZER, tmp_path / "wrong", golden_output=-bundle.golden_output)
    found = verdict(Request({**REFERENCE, "recognizer": str(wrong.path)}, REFERENCE, 10_000))
    # The example that is furthest off is named: which of the two that is, the committed weights decide.
    assert re.search(r"golden example [01] gives another output on this device \(cosine -1\.0000", found)


def test_a_slow_model_is_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = variant(RECOGNIZER, tmp_path / "slow").path
    output = BundledModel.output

    def delayed(model: BundledModel, image: np.ndarray) -> np.ndarray:
        time.sleep(0.1 if model.bundle.path == slow else 0)  # far more than a busy machine adds
        return output(model, image)

    monkeypatch.setattr(BundledModel, "output", delayed)
    found = verdict(Request({**REFERENCE, "recognizer": str(slow)}, REFERENCE, 300))
    assert "its recognizer takes" in found
    assert "300 % are allowed" in found


def test_a_detector_in_place_of_a_recognizer_is_bad() -> None:
    assert "is for detection, not for recognition" in verdict(
        Request({"detector": str(DETECTOR), "recognizer": str(DETECTOR)}, REFERENCE, 10_000)
    )


def test_a_trial_that_cannot_be_made_says_nothing_about_the_release() -> None:
    with pytest.raises(RuntimeError, match="the trial could not be made"):
        try_release(Request(REFERENCE, {}, 10_000))


def test_a_release_whose_trials_never_end_is_given_up(
    repository: Repository, make_device: Callable[..., Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(repository)
    device = make_device()

    def killed(_request: Request) -> str:
        raise RuntimeError("the trial was killed")

    monkeypatch.setattr("slimcam.deploy.ota.device.update.try_release", killed)
    for _ in range(ATTEMPTS):
        with pytest.raises(RuntimeError, match="was killed"):
            device.look()
        assert not device.state.bad
    assert device.look().bad == {1: f"{ATTEMPTS} trials of it came to no end"}


@pytest.mark.usefixtures("no_trial")
def test_a_second_look_downloads_nothing(
    repository: Repository, make_device: Callable[..., Device], server: Server
) -> None:
    publish(repository)
    device = make_device()
    device.look()
    server.asked.clear()
    assert device.look().phase == "ready"
    assert server.asked == ["/metadata/2.root.json", "/metadata/timestamp.json"]


@pytest.mark.usefixtures("no_trial")
def test_a_newer_release_takes_the_place_of_one_that_is_ready(
    repository: Repository, make_device: Callable[..., Device]
) -> None:
    publish(repository)
    device = make_device()
    device.look()
    publish(repository)
    state = device.look()
    assert state.ready is not None
    assert (state.ready.release, state.ready.slot) == (2, "a")


@pytest.mark.usefixtures("no_trial")
def test_rings_and_withdrawal_reach_devices(repository: Repository, make_device: Callable[..., Device]) -> None:
    publish(repository, rings={"canary": 100})
    canary, stable = make_device("canary", ring="canary"), make_device("stable")
    assert canary.look().available == 1
    assert stable.look().available is None
    repository.promote(1, {"stable": 100})
    assert stable.look().available == 1
    repository.withdraw(1)
    late = make_device("late")
    assert late.look().available is None


@pytest.mark.usefixtures("no_trial")
def test_a_device_whose_runtime_is_too_old_waits(repository: Repository, make_device: Callable[..., Device]) -> None:
    publish(repository, runtime=(99,))
    device = make_device()
    with pytest.raises(RuntimeError, match=r"release 1 needs ai-edge-litert 99, this device has .*: update it"):
        device.look()
    assert not device.state.bad


@pytest.mark.usefixtures("no_trial")
def test_a_device_whose_clock_is_far_behind_waits(repository: Repository, make_device: Callable[..., Device]) -> None:
    publish(repository)
    device = make_device()
    device.file.change(lambda state: replace(state, checked=int(time.time()) + 10 * 86_400))
    with pytest.raises(RuntimeError, match="the clock is behind the last look"):
        device.look()


@pytest.mark.usefixtures("no_trial")
def test_a_server_that_is_not_there_is_told_in_a_line(make_device: Callable[..., Device]) -> None:
    device = make_device()
    device.settings = replace(device.settings, url="http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"cannot be fetched: .*refused"):
        device.look()


def test_two_looks_at_once_are_one(make_device: Callable[..., Device]) -> None:
    device = make_device()
    with locked(device.folder / "update.lock"), pytest.raises(BlockingIOError, match="another update"):
        device.look()


def gallery_with(device: Device, crops: bool) -> Gallery:
    bundle = load_bundle(RECOGNIZER)
    assert device.settings.gallery is not None
    assert device.settings.key is not None
    size = bundle.golden_output.shape[1]
    gallery = Gallery(Path(device.settings.gallery), bundle.sha256, size, Path(device.settings.key))
    crop = encode_crop(np.zeros((112, 112, 3), np.uint8))
    embedding = np.eye(size, dtype=np.float32)[0]
    gallery.enroll("Ada", [Template(embedding, crop if crops else None, "a.jpg")], consent="rendered")
    return gallery


@pytest.mark.usefixtures("no_trial")
def test_a_recognizer_of_another_space_waits_for_a_gallery_that_can_follow(
    repository: Repository, make_device: Callable[..., Device], server: Server, tmp_path: Path
) -> None:
    other = variant(RECOGNIZER, tmp_path / "other", noise=0.001).path
    publish(repository, other)
    device = make_device()
    gallery = gallery_with(device, crops=False)
    with pytest.raises(RuntimeError, match=r"no crops were kept of views of Ada.*keep_crops=true"):
        device.look()
    assert not device.state.bad
    assert not [path for path in server.asked if path.startswith("/targets")]  # nothing was downloaded in vain
    gallery.forget(gallery.people()[0].id)
    gallery.close()
    gallery_with(device, crops=True).close()
    assert device.look().phase == "ready"


@pytest.mark.usefixtures("no_trial")
def test_the_same_recognizer_with_another_detector_needs_no_crops(
    repository: Repository, make_device: Callable[..., Device], tmp_path: Path
) -> None:
    publish(repository, detector=variant(DETECTOR, tmp_path / "other", noise=0.0001).path)
    device = make_device()
    gallery_with(device, crops=False).close()
    assert device.look().phase == "ready"


def test_downloads_keep_to_their_limit(server: Server, repository: Repository) -> None:
    publish(repository)
    part = repository.releases()[0].parts["detector"]
    fetcher = LimitedFetcher(limit=1_000_000)
    begin = time.monotonic()
    data = fetcher.download_bytes(f"{server.url}/targets/releases/1/{part.archive}.detector.tar", 10**7)
    assert len(data) / (time.monotonic() - begin) < 1.1e6
    assert fetcher.received == len(data)
