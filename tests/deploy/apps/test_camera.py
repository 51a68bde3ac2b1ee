"""The camera as its user runs it: the bundles of slimcam, a clip of rendered people, an encrypted gallery."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import pytest
from omegaconf import OmegaConf

from slimcam.deploy.apps.camera import CameraConfig, describe
from slimcam.deploy.latency.record import read_records
from slimcam.deploy.types import STAGES, Event, Identity
from slimcam.training.tools.demo_clip import ClipConfig, write_clip

ROOT = Path(__file__).resolve().parents[3]
SEED = 4


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_clip(folder, ClipConfig(seconds=6, people=2, unknown=1, seed=SEED))
    return folder


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "conf"),
    }


def call(module: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=home,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def camera(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return call("slimcam.deploy.apps.camera", home, *words)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO:")]
    assert done.returncode == 1
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_people_who_are_enrolled_are_recognised_in_a_clip(scene: Path, tmp_path: Path) -> None:
    people = sorted(path.name for path in (scene / "people").iterdir())
    for name in people:
        done = call(
            "slimcam.deploy.apps.faces", tmp_path, "enroll", name, str(scene / "people" / name), "consent=drawn"
        )
        assert done.returncode == 0, done.stderr
    done = camera(
        tmp_path,
        f"source={scene / 'clip.mp4'}",
        "web.port=null",
        "report=report.json",
        "outputs.lines=frames.jsonl",
        "outputs.lines_of=frames",
        "outputs.video=seen.avi",
    )
    assert done.returncode == 0, done.stderr
    frames = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert len(frames) == 60
    named = {face["identity"]["name"] for frame in frames for face in frame["faces"] if face["identity"]}
    assert named & set(people)
    assert named <= {*people, None}
    (record,) = read_records(tmp_path / "report.json")
    assert record.camera is not None
    assert record.latency_ms == record.camera.stages["result"]
    assert record.camera.frames == record.samples == 57
    assert set(record.camera.stages) <= set(STAGES)
    assert record.camera.stages["detect"].p50 > 0
    seen = cv2.VideoCapture(str(tmp_path / "seen.avi"))
    assert seen.get(cv2.CAP_PROP_FRAME_COUNT) == 60
    assert "frames a second" in done.stdout
    assert [line for line in done.stderr.splitlines() if "recognised" in line]
    assert not list(tmp_path.rglob("unknown"))  # nothing is kept of strangers unless it is asked for
    # Portraits, one after the other: each is a scene of its own, and nobody is taken for the one before.
    (tmp_path / "album").mkdir()
    portraits = {f"{name}.png": sorted((scene / "people" / name).iterdir())[0] for name in people}
    for file, portrait in portraits.items():
        shutil.copy(portrait, tmp_path / "album" / file)
    done = camera(tmp_path, "source=album", "web.port=null", "outputs.lines=album.jsonl", "outputs.lines_of=frames")
    assert done.returncode == 0, done.stderr
    frames = [json.loads(line) for line in (tmp_path / "album.jsonl").read_text().splitlines()]
    found = [[face["identity"]["name"] for face in frame["faces"]] for frame in frames]
    assert found == [[file.removesuffix(".png")] for file in sorted(portraits)]


def test_without_a_gallery_faces_are_followed_and_nothing_is_written(scene: Path, tmp_path: Path) -> None:
    done = camera(tmp_path, f"source={scene / 'clip.mp4'}", "web.port=null", "frames=30")
    assert done.returncode == 0, done.stderr
    assert "appeared" in done.stderr
    assert "recognised" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    # Unknown faces are kept if their owner chose so, and then sealed.
    done = camera(tmp_path, f"source={scene / 'clip.mp4'}", "web.port=null", "unknown.keep=true", "gallery=~/g/g.db")
    assert done.returncode == 0, done.stderr
    kept = sorted((tmp_path / "g/unknown").iterdir())
    assert kept
    assert all(b"PNG" not in file.read_bytes() and file.stat().st_mode & 0o077 == 0 for file in kept)


def test_it_ends_when_told_to_with_its_files_whole(scene: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "slimcam.deploy.apps.camera", f"source={scene / 'clip.mp4'}", "capture.loop=true"),
            *("capture.realtime=true", "web.port=0", "report=report.json", "outputs.video=seen.avi"),
        ],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    url = ""
    for line in process.stderr:
        if "the page is at" in line:
            url = line.split()[-1]
        if "appeared" in line:
            break
    with urllib.request.urlopen(url, timeout=10) as page:
        assert b"slimcam" in page.read()
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert read_records(tmp_path / "report.json")[0].camera is not None
    assert cv2.VideoCapture(str(tmp_path / "seen.avi")).isOpened()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "which camera? give source=0"),
        (("source=nowhere.mp4",), "nowhere.mp4: there is no such file"),
        (("source=text.mp4",), "text.mp4"),
        (("source=text.mp4", "frames=0"), "frames and seconds are above 0"),
        (("source=text.mp4", "far=0.2"), "0.2"),
        (("source=text.mp4", "detector=nowhere"), "nowhere"),
        (("source=text.mp4", "reach=wide"), "reach is one of near, far; got 'wide'"),
        (("source=text.mp4", "sauce=1"), "sauce"),
        (("source=text.mp4", "web.host=0.0.0.0"), "SLIMCAM_WEB_TOKEN"),
        (("source=text.mp4", "quality.min_size=0"), "quality.min_size"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert says in one_line(camera(tmp_path, *words))


def test_an_option_works_under_its_former_name_with_a_notice(tmp_path: Path) -> None:
    done = camera(tmp_path, "source=nowhere.mp4", "track.patience=-1", "quality.turned=45")
    assert [line.partition(" now;")[0] for line in done.stderr.splitlines()] == [
        "slimcam-camera: track.patience is called track.buffer_seconds",
        "slimcam-camera: quality.turned is called quality.max_yaw_pitch",
        "slimcam-camera: track.buffer_seconds must be above 0; got -1.0",
    ]


def test_the_configuration_composes_with_every_field() -> None:
    assert OmegaConf.structured(CameraConfig).recognize.budget == 1


def test_events_are_told_in_a_line() -> None:
    ada = Identity("0" * 32, "Ada", 0.71, 0.2)
    assert describe(Event("recognised", 3, ada, 1.5, 0.0)).split() == [
        "1.50",
        "s",
        "face",
        "3",
        "recognised",
        "Ada",
        "(0.71)",
    ]
    assert describe(Event("appeared", 3, None, 1.5, 0.0)).split() == ["1.50", "s", "face", "3", "appeared"]


def test_passwords_in_addresses_are_not_repeated(tmp_path: Path) -> None:
    done = camera(tmp_path, "sourse=rtsp://admin:sesame@h/")
    assert done.returncode == 1
    assert "sesame" not in done.stderr
    done = camera(tmp_path, "source=ftp://admin:se,sa{me(1)@h/x?a=b&c=d")
    assert "rtsp://" in one_line(done)
    assert "sa{me" not in done.stderr


def test_a_waiting_camera_ends_when_its_time_is_up_or_it_is_told_to(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "slimcam.deploy.apps.camera", "source=rtsp://127.0.0.1:1/x", "web.port=null"]
    started = time.monotonic()
    done = subprocess.run([*words, "seconds=1"], cwd=tmp_path, env=environment(tmp_path), timeout=60)
    assert done.returncode == 0
    assert time.monotonic() - started < 30
    process = subprocess.Popen(words, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    while not int(status.read_text().split("SigCgt:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1:
        assert time.monotonic() - started < 60
        time.sleep(0.05)
    while process.poll() is None:
        # Until it has ended: a second signal kills nothing.
        process.send_signal(signal.SIGTERM)
        assert time.monotonic() - started < 90
        time.sleep(0.01)
    assert process.returncode == 0


def test_three_frames_are_a_run_and_warm_up_is_told(scene: Path, tmp_path: Path) -> None:
    for frames, expected in ((3, (0, 3)), (10, (3, 7))):
        done = camera(tmp_path, f"source={scene / 'clip.mp4'}", "web.port=null", f"frames={frames}", "report=r.json")
        assert done.returncode == 0, done.stderr
        (record,) = read_records(tmp_path / "r.json")
        assert (record.warmup, record.samples) == expected


def test_a_report_that_cannot_be_written_is_known_at_the_start(scene: Path, tmp_path: Path) -> None:
    line = one_line(camera(tmp_path, f"source={scene / 'clip.mp4'}", "web.port=null", f"report={tmp_path}"))
    assert "report=" in line
    assert "folder" in line


def test_lines_are_alone_on_the_standard_output(scene: Path, tmp_path: Path) -> None:
    done = camera(
        tmp_path,
        f"source={scene / 'clip.mp4'}",
        "web.port=null",
        "outputs.lines=-",
        "outputs.lines_of=frames",
        "frames=9",
    )
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 9
    assert "result" in done.stderr
