"""A camera that tries a release: real models, a clip of rendered people, the gallery of those who are enrolled."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.camera.known_people import KnownPeople
from slimcam.deploy.camera.outputs.config import MetricsConfig, MqttConfig
from slimcam.deploy.camera.outputs.metrics import Metrics
from slimcam.deploy.camera.outputs.mqtt import discovery, update_record
from slimcam.deploy.camera.recognition import RecognitionPipeline
from slimcam.deploy.camera.sources import SourceConfig, open_source
from slimcam.deploy.camera.track_identity import RecognizeConfig
from slimcam.deploy.camera.updates import Updates
from slimcam.deploy.gallery import enrollment
from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.inference.bundle import DETECTOR, MANIFEST, RECOGNIZER, load_bundle
from slimcam.deploy.inference.model import BundledModel, Recognizer
from slimcam.deploy.ota.archive import pack, unpack
from slimcam.deploy.ota.config import OtaConfig
from slimcam.deploy.ota.device.slots import Slots
from slimcam.deploy.ota.device.state import STARTS, State, StateFile
from slimcam.deploy.ota.device.status import UpdateStatus
from slimcam.deploy.ota.release import PARTS, Part, Release
from slimcam.deploy.types import Frame, View
from slimcam.deploy.vision.detector import open_detector
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.deploy.vision.track import TrackConfig
from slimcam.training.tools.demo_clip import ClipConfig, write_clip
from tests.deploy.ota.releases import crashing, variant

ROOT = Path(__file__).resolve().parents[3]
WINDOW = 150
FACTORY = {"detector": DETECTOR, "recognizer": RECOGNIZER}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_clip(folder, ClipConfig(seconds=6, people=2, unknown=0, seed=28))
    return folder


@pytest.fixture(scope="module")
def frames(scene: Path) -> list[Frame]:
    with open_source(str(scene / "clip.mp4"), SourceConfig()) as source:
        return list(source)


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@dataclass
class Camera:
    """A camera whose frames a test hands out."""

    updates: Updates
    known: KnownPeople
    frames: list[Frame]
    slots: Slots
    shown: int = 0

    def until(self, wanted: Callable[[State], bool], seconds: float = 30) -> list[View]:
        """Shows the clip again and again until the state is as wanted."""
        views, end = [], time.monotonic() + seconds
        while not wanted(self.state):
            assert time.monotonic() < end, self.state
            number = self.shown
            frame = self.frames[number % len(self.frames)]
            again = Frame(frame.image, number, number / 10, time.monotonic())
            if self.known.changed():
                self.updates._recognition.use(self.known.matcher)
            views.append(self.updates.see(again))
            self.shown += 1
            time.sleep(0.005)
        return views

    @property
    def state(self) -> State:
        return self.slots.file.read()


def stage(folder: Path, number: int, slowdown: int = 10_000, **bundles: Path) -> Slots:
    """A release that is ready, without a server and a trial."""
    slots = Slots(folder, StateFile(folder))
    files = {part: unpack(pack(bundles.get(part, FACTORY[part]))) for part in PARTS}
    digests = {part: hashlib.sha256(files[part][MANIFEST]).hexdigest() for part in PARTS}
    parts = {part: Part("", digests[part], "", "", {}, {}) for part in PARTS}
    slots.ready(slots.stage(Release(number, parts, slowdown=slowdown), files))
    return slots


@pytest.fixture
def people(scene: Path, tmp_path: Path) -> Path:
    """A gallery of those in the clip, with their crops."""
    path = tmp_path / "data/gallery.db"
    recognizer, detector = Recognizer(RECOGNIZER), open_detector(DETECTOR)
    with Gallery(path, recognizer.bundle.sha256, recognizer.embedding_size, tmp_path / "key/key") as gallery:
        for person in sorted((scene / "people").iterdir()):
            found, _ = enrollment.templates(
                enrollment.pictures([person], []), detector, recognizer, QualityConfig(), True
            )
            gallery.enroll(person.name, found, consent="drawn")
    return path


@pytest.fixture
def make_camera(frames: list[Frame], people: Path, tmp_path: Path) -> Iterator[Callable[[], Camera]]:
    opened: list[Camera] = []

    def make() -> Camera:
        folder = tmp_path / "device"
        key = str(tmp_path / "key/key")
        updates = Updates(OtaConfig(folder=str(folder), window=WINDOW), dict(FACTORY), str(people), key, 1)
        bundles = updates.folders
        recognizer = Recognizer(bundles["recognizer"])
        known = KnownPeople(recognizer, str(people), key, 0.001, 0.05, QualityConfig(), follows=True)
        recognition = RecognitionPipeline(
            open_detector(bundles["detector"]),
            recognizer,
            known.matcher,
            RecognizeConfig(again=0.3, rest=0.3),
            QualityConfig(),
            TrackConfig(),
        )
        updates.begin(recognition, known)
        opened.append(Camera(updates, known, frames, Slots(folder, StateFile(folder))))
        return opened[-1]

    yield make
    for camera in opened:
        camera.updates.close()
        camera.known.close()


def model_of(people: Path, tmp_path: Path) -> str | None:
    with Gallery(people, key=tmp_path / "key/key") as gallery:
        return gallery.made_with()


def names(views: list[View]) -> set[str]:
    return {
        one.identity.name or ""
        for view in views
        for one in view.sightings
        if one.identity is not None and one.identity.known
    }


def test_a_release_of_another_space_is_kept_and_the_gallery_follows(
    make_camera: Callable[[], Camera], people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = variant(RECOGNIZER, tmp_path / "other", noise=0.002, seed=3)
    stage(tmp_path / "device", 1, recognizer=other.path)
    camera = make_camera()
    before = camera.until(lambda state: state.trial is not None)
    during = camera.until(lambda state: state.release == 1 and state.trial is None)
    shown = camera.shown
    after = camera.until(lambda _: camera.shown > shown + 150)
    assert camera.state.minimum == 1
    assert model_of(people, tmp_path) == other.sha256
    assert names(before)
    assert names(before) <= names(during) == names(after)
    assert camera.updates.status == UpdateStatus(release=1)
    assert "release 1 proved itself" in capsys.readouterr().err


def test_a_release_that_is_worse_on_enrolled_people_is_rolled_back_and_the_gallery_is_as_it_was(
    make_camera: Callable[[], Camera], people: Path, tmp_path: Path
) -> None:
    before = people.read_bytes()
    stage(tmp_path / "device", 1, recognizer=variant(RECOGNIZER, tmp_path / "bad", noise=1.0, seed=3).path)
    camera = make_camera()
    camera.until(lambda state: 1 in state.bad)
    assert "views of enrolled people recognized: " in camera.state.bad[1]
    assert camera.state.release == 0
    shown = camera.shown
    assert names(camera.until(lambda _: camera.shown > shown + 100))
    assert people.read_bytes() == before
    assert camera.updates.status.rollbacks == 1


def test_a_detector_that_finds_nobody_is_rolled_back(make_camera: Callable[[], Camera], tmp_path: Path) -> None:
    stage(tmp_path / "device", 1, detector=variant(DETECTOR, tmp_path / "bad", noise=1.0, seed=3).path)
    camera = make_camera()
    camera.until(lambda state: 1 in state.bad)
    assert "faces found" in camera.state.bad[1]


@contextmanager
def delayed(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models in slots are slow, as they may be beside a camera and were not in the trial."""
    output = BundledModel.output

    def slow(model: BundledModel, image: np.ndarray) -> np.ndarray:
        if "slot-" in str(model.bundle.path):
            time.sleep(seconds)
        return output(model, image)

    with monkeypatch.context() as patched:
        patched.setattr(BundledModel, "output", slow)
        yield


def test_a_release_that_is_slow_is_rolled_back_early(
    make_camera: Callable[[], Camera], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(tmp_path / "device", 1, slowdown=150)
    camera = make_camera()
    with delayed(0.1, monkeypatch):
        camera.until(lambda state: state.trial is not None)
        camera.until(lambda state: 1 in state.bad)
    assert "detect takes " in camera.state.bad[1]
    assert "(p50 of 30)" in camera.state.bad[1]


def test_a_model_that_fails_at_a_frame_loses_no_frame(
    make_camera: Callable[[], Camera], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(tmp_path / "device", 1)
    camera = make_camera()
    output = BundledModel.output

    def failing(model: BundledModel, image: np.ndarray) -> np.ndarray:
        if "slot-" in str(model.bundle.path):
            raise RuntimeError("failed to invoke")
        return output(model, image)

    views = camera.until(lambda _: camera.updates.status.progress is not None)
    monkeypatch.setattr(BundledModel, "output", failing)
    views += camera.until(lambda state: 1 in state.bad)
    assert len(views) == camera.shown
    assert camera.state.bad[1] == "it failed at a frame: failed to invoke"


def test_somebody_who_was_enrolled_without_a_crop_meanwhile_sends_the_release_back(
    make_camera: Callable[[], Camera], people: Path, tmp_path: Path
) -> None:
    stage(tmp_path / "device", 1, recognizer=variant(RECOGNIZER, tmp_path / "other", noise=0.002, seed=3).path)
    camera = make_camera()
    camera.until(lambda _: camera.updates.status.progress is not None)
    before = load_bundle(RECOGNIZER)
    with Gallery(people, before.sha256, before.golden_output.shape[1], tmp_path / "key/key") as gallery:
        template = gallery.templates(gallery.people()[0].id)[0]
        gallery.enroll("Late", [type(template)(-template.embedding, None, "late.jpg")], consent="drawn")
    camera.until(lambda state: state.trial is None)
    assert camera.state.release == 0
    assert not camera.state.bad
    assert "the gallery cannot follow it: no crops were kept of views of Late" in camera.state.error


def test_a_gallery_of_a_release_that_was_not_kept_in_time_comes_back(
    make_camera: Callable[[], Camera], people: Path, tmp_path: Path
) -> None:
    """The power failed after the gallery had followed, and before the release was kept; then it was rolled back."""
    other = Recognizer(variant(RECOGNIZER, tmp_path / "other", noise=0.002, seed=3).path)
    with Gallery(people, key=tmp_path / "key/key") as gallery:
        gallery.re_enroll(other.embed, other.bundle.sha256)
    camera = make_camera()
    deadline = time.monotonic() + 10
    while model_of(people, tmp_path) == other.bundle.sha256 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert model_of(people, tmp_path) == load_bundle(RECOGNIZER).sha256
    assert names(camera.until(lambda _: camera.shown > 100))


def camera_process(scene: Path, tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "slimcam.deploy.apps.camera", f"source={scene / 'clip.mp4'}", "capture.loop=true"),
            *(
                "web.port=null",
                f"ota.folder={tmp_path / 'device'}",
                f"gallery={tmp_path / 'none.db'}",
                "ota.window=100",
            ),
            *words,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_model_that_would_crash_the_camera_is_not_run(scene: Path, tmp_path: Path) -> None:
    """Past the trial, which it would not have got through."""
    slots = stage(tmp_path / "device", 1, detector=crashing(DETECTOR, tmp_path / "crashing").path)
    with camera_process(scene, tmp_path, "seconds=4") as camera:
        assert camera.stderr is not None
        told = camera.stderr.read()
        assert camera.wait(60) == 0
    assert "it crashes the TFLite runtime, SIGABRT" in told
    assert slots.file.read().release == 0
    assert 1 in slots.file.read().bad


def test_a_release_with_which_the_camera_ends_again_and_again_is_rolled_back(scene: Path, tmp_path: Path) -> None:
    slots = stage(tmp_path / "device", 1)
    slots.file.change(lambda state: replace(state, starts=STARTS - 1))  # as if it had done so before
    with camera_process(scene, tmp_path, "ota.window=100000") as camera:
        deadline = time.monotonic() + 60
        while slots.file.read().starts < STARTS and time.monotonic() < deadline:
            time.sleep(0.05)
        camera.kill()
    with camera_process(scene, tmp_path, "seconds=4") as camera:
        assert camera.stderr is not None
        told = camera.stderr.read()
        assert camera.wait(60) == 0
    assert f"rolled back: release 1: the camera ended {STARTS} times in its health window" in told
    assert slots.file.read().release == 0


def test_a_camera_that_is_killed_in_the_window_goes_on_with_it(scene: Path, tmp_path: Path) -> None:
    slots = stage(tmp_path / "device", 1)
    with camera_process(scene, tmp_path, "ota.window=100000") as camera:
        while slots.file.read().trial is None:
            time.sleep(0.05)
        time.sleep(0.3)
        camera.kill()
    with camera_process(scene, tmp_path) as camera:
        deadline = time.monotonic() + 30
        while slots.file.read().current is None and time.monotonic() < deadline:
            time.sleep(0.05)
        camera.terminate()
    assert slots.file.read().release == 1
    assert slots.file.read().starts == 0


STATUS = UpdateStatus("trial", 8, 8, 40, 'release 7: "slow"', 1, 1_800_000_000)


def test_prometheus_tells_the_state_of_updates() -> None:
    metrics = Metrics(MetricsConfig(port=0), lambda: STATUS)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    finally:
        metrics.close()
    for line in (
        "slimcam_update_release 8.0",
        "slimcam_update_available_release 8.0",
        'slimcam_update_activity{activity="trial"} 1.0',
        'slimcam_update_activity{activity="idle"} 0.0',
        "slimcam_update_failed 1.0",
        "slimcam_update_rollbacks_total 1.0",
        "slimcam_update_checked_timestamp_seconds 1.8e+09",
    ):
        assert line in lines


def test_home_assistant_is_told_of_the_update() -> None:
    record = update_record(STATUS)
    assert record == {
        "installed_version": "8",
        "latest_version": "8",
        "title": "slimcam models",
        "in_progress": True,
        "update_percentage": 40,
        "release_summary": 'release 7: "slow"',
        "activity": "trial",
        "error": 'release 7: "slow"',
        "rollbacks": 1,
    }
    assert update_record(UpdateStatus(release=0, available=3))["latest_version"] == "3"
    assert json.loads(json.dumps(record)) == record
    entity = discovery(MqttConfig(), "door", updated=True)["components"]["update"]
    assert (entity["platform"], entity["state_topic"]) == ("update", "slimcam/door/update")
    assert "update" not in discovery(MqttConfig(), "door")["components"]
