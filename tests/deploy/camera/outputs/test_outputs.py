from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from slimcam.deploy.camera.outputs.config import MetricsConfig, MqttConfig, OutputsConfig
from slimcam.deploy.camera.outputs.lines import Lines, as_json, clean, event_record, frame_record
from slimcam.deploy.camera.outputs.metrics import Metrics
from slimcam.deploy.camera.outputs.opening import Contained, open_outputs
from slimcam.deploy.camera.outputs.output import Stop
from slimcam.deploy.camera.outputs.video import PAUSE, RESERVE, Pace, Video, video_rate
from slimcam.deploy.camera.outputs.window import Window
from slimcam.deploy.types import STAGES, Event, EventKind, Frame, Identity, Notice, Sighting, View
from slimcam.deploy.vision.align import TEMPLATE

ROOT = Path(__file__).parents[4]
ADA = Identity("p1", "Ada Lovelace", 0.71239, 0.3)
STRANGER = Identity(None, None, 0.2, 0.1)
NAMES = st.text(st.characters(), max_size=60)  # surrogates and control characters too


def view(
    seconds: float = 0.0,
    *,
    color: int | np.ndarray = 90,
    size: tuple[int, int] = (96, 128),
    sightings: tuple[Sighting, ...] = (),
    events: tuple[Event, ...] = (),
    milliseconds: dict[str, float] | None = None,
    lost: int = 0,
) -> View:
    image = np.empty((*size, 3), np.uint8)
    image[:] = color
    number = round(seconds * 30)
    return View(Frame(image, number, seconds, time.monotonic(), lost), sightings, events, milliseconds or {})


def sighting(identity: Identity | None, track: int = 1, quality_issues: tuple[str, ...] = ()) -> Sighting:
    return Sighting(track, TEMPLATE, 0.9, quality_issues, identity)


def event(kind: EventKind, identity: Identity | None = None, track: int = 1, at: float = 1.7e9) -> Event:
    return Event(kind, track, identity, 1.5, at)


# Configuration


def test_all_outputs_are_off_by_default() -> None:
    assert open_outputs(OutputsConfig(), 30) == []


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: OutputsConfig(lines_of="words"), "events or frames; got 'words'"),
        (lambda: OutputsConfig(video=""), "video is empty"),
        (lambda: OutputsConfig(lines=""), "lines is empty"),
        (lambda: MetricsConfig(port=70000), "0 to 65535; got 70000"),
        (lambda: MetricsConfig(port=1, host=""), "metrics.host is empty"),
        (lambda: MqttConfig(host="a", port=0), "1 to 65535; got 0"),
        (lambda: MqttConfig(host="a", ca="x"), "not mqtt.tls=true"),
        (lambda: MqttConfig(host="a", id="a/b"), "letters, digits"),
        (lambda: MqttConfig(host="a", base="a/#"), "without # and"),
        (lambda: MqttConfig(host="a", base="$SYS"), "is a topic"),
        (lambda: MqttConfig(host="a", base="a/"), "is a topic"),
        (lambda: MqttConfig(host="a", discovery=""), "mqtt.discovery is a topic"),
        (lambda: MqttConfig(host="a", qos=3), "0, 1 or 2; got 3"),
        (lambda: MqttConfig(host="a", keepalive=1), "5 to 65535"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="without mqtt://") as error:
        MqttConfig(host="mqtt://ada:secret@broker")
    assert "secret" not in str(error.value)


def test_libraries_are_imported_for_their_output_alone(tmp_path: Path) -> None:
    script = """
import sys
from slimcam.deploy.camera.outputs.config import OutputsConfig
from slimcam.deploy.camera.outputs.opening import open_outputs
for output in open_outputs(OutputsConfig(lines="-", video=sys.argv[1]), 30):
    output.close()
print([name for name in ("paho", "prometheus_client", "aiohttp", "cryptography") if name in sys.modules])
"""
    command = [sys.executable, "-c", script, str(tmp_path / "x.mkv")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout == "[]\n"


def test_an_error_in_opening_closes_those_that_are_open(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    config = OutputsConfig(video=str(tmp_path / "gone/x.mkv"), metrics=MetricsConfig(port=port))
    with pytest.raises(FileNotFoundError, match=r"cannot be written there.*gone/x\.mkv"):
        open_outputs(config, 30)
    with socket.create_server(("127.0.0.1", port)):
        pass  # the metrics' port is free again
    with pytest.raises(ValueError, match="a video is"):
        open_outputs(OutputsConfig(lines=str(tmp_path / "a.jsonl"), video=str(tmp_path / "a.gif")), 30)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.jsonl"]


class Breaking:
    """Fails at the second view."""

    def __init__(self, error: Exception) -> None:
        self.error, self.shown, self.closed = error, 0, 0

    def notice(self, notice: Notice) -> None:
        pass

    def show(self, view: View) -> None:  # noqa: ARG002
        self.shown += 1
        if self.shown == 2:
            raise self.error

    def close(self) -> None:
        self.closed += 1


def test_an_output_that_fails_is_tried_again_and_tells_what_it_missed(capfd: pytest.CaptureFixture[str]) -> None:
    broken = Breaking(OSError(errno.ENOSPC, "No space\nleft", "x.mkv"))
    now, opened = 0.0, 0

    def again() -> Breaking:
        nonlocal opened
        opened += 1
        if opened == 2:
            raise PermissionError("not yet")
        return broken

    output = Contained("video", again, lambda: now)
    for moment in (0.0, 0.1, 0.9, 1.2, 2.9, 3.3, 3.4):
        now = moment
        output.show(view(events=(event("left"),)))
    output.close()
    # Frames at 0.1 (the failure), 0.9 (the pause), 1.2 (cannot be opened) and 2.9 (twice the pause) are missed.
    assert (opened, broken.shown, broken.closed) == (3, 4, 2)
    assert capfd.readouterr().err.splitlines() == [
        "slimcam-camera: video: [Errno 28] No space left: 'x.mkv'; it is tried again",
        "slimcam-camera: video: goes on; 4 frames and 4 events did not get there",
    ]


def test_the_wish_to_stop_goes_through() -> None:
    broken = Breaking(Stop("enough"))
    output = Contained("window", lambda: broken)
    output.show(view())
    with pytest.raises(Stop):
        output.show(view())
    output.close()
    assert broken.closed == 1


# Lines


def test_events_become_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = Lines(str(path))
    lines.show(view(events=(event("appeared"), event("recognised", ADA))))
    lines.show(view())
    first, second = map(json.loads, path.read_text().splitlines())  # there before it is closed
    lines.close()
    assert first == {
        "kind": "appeared",
        "track": 1,
        "person": None,
        "name": None,
        "score": None,
        "margin": None,
        "seconds": 1.5,
        "at": 1.7e9,
        "time": "2023-11-14T22:13:20.000Z",
    }
    assert (second["person"], second["name"], second["score"], second["margin"]) == ("p1", "Ada Lovelace", 0.7124, 0.3)
    assert path.stat().st_mode & 0o777 == 0o600


def test_frames_become_lines(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    lines = Lines(str(path), "frames")
    faces = (sighting(ADA, 3, ("small",)), sighting(None, 4))
    lines.show(view(0.5, sightings=faces, events=(event("left"),), milliseconds={"detect": 4.56789}, lost=2))
    lines.show(view(0.6))
    lines.close()
    first, second = map(json.loads, path.read_text().splitlines())
    assert (first["frame"], first["seconds"], first["lost"]) == (15, 0.5, 2)
    assert first["milliseconds"] == {"detect": 4.568}
    assert abs(datetime.fromisoformat(first["time"].replace("Z", "+00:00")).timestamp() - time.time()) < 60
    assert first["at"] == pytest.approx(time.time(), abs=60)
    assert [face["track"] for face in first["faces"]] == [3, 4]
    np.testing.assert_allclose(first["faces"][0]["points"], TEMPLATE, atol=0.05)
    assert first["faces"][0]["flaws"] == ["small"]
    assert first["faces"][0]["identity"]["name"] == "Ada Lovelace"
    assert first["faces"][1]["identity"] is None
    assert first["events"][0]["kind"] == "left"
    assert (second["faces"], second["events"]) == ([], [])


@settings(deadline=None)
@given(name=NAMES, score=st.floats(), at=st.floats())
@example(name="a\nb\u2028c\x85\ud800\ud83d\ude00", score=float("nan"), at=1e300)
def test_any_name_and_number_is_one_line_of_strict_json(name: str, score: float, at: float) -> None:
    recognised = event("recognised", Identity("p", name, score, score), at=at)
    with np.errstate(over="ignore"):
        face = Sighting(1, np.full((5, 2), score).astype(np.float32), score, (), recognised.identity)
    shown = view(sightings=(face,), events=(recognised,), milliseconds={"detect": score})
    for record in (event_record(recognised), frame_record(shown)):
        line = as_json(record)
        assert len(line.decode().splitlines()) == 1
        read = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
        assert read == record
    told = event_record(recognised)["name"]
    told.encode("utf-8")  # strict readers refuse lone surrogates
    if not any("\ud800" <= character <= "\udfff" for character in name):
        assert told == name == clean(name)


def test_lines_are_added_and_a_torn_one_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind":"left"}\n{"kind":"app')
    for _ in range(2):
        lines = Lines(str(path))
        lines.show(view(events=(event("left"),)))
        lines.close()
        lines.close()
    read = path.read_text().splitlines()
    assert [json.loads(line)["kind"] for line in (read[0], *read[2:])] == ["left", "left", "left"]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    script = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.deploy.camera.outputs.test_outputs import *
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
output = Contained("lines", lambda: Lines({str(path)!r}))
for _ in range(20):
    output.show(view(events=(event("recognised", ADA),)))
output.close()
print("goes on")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "goes on\n"
    assert done.stderr.splitlines() == [
        f"slimcam-camera: lines: [Errno 27] File too large: '{path}'; it is tried again",
        "slimcam-camera: lines: 17 frames and 17 events did not get there",
    ]
    text = path.read_text()
    assert text.endswith("}\n")
    assert len([json.loads(line) for line in text.splitlines()]) == 3


def test_lines_of_a_moment_of_a_full_disk_are_counted_and_the_next_ones_written(
    small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    output = Contained("lines", lambda: Lines(str(small_disk / "events.jsonl")), lambda: now)
    output.show(view(events=(event("appeared"),)))
    fill = small_disk / "other"
    with fill.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 12)):
            pass
    for _ in range(30):
        output.show(view(events=(event("recognised", ADA),)))
    fill.unlink()
    now = 1.5
    output.show(view(events=(event("left", ADA),)))
    output.close()
    kinds = [json.loads(line)["kind"] for line in (small_disk / "events.jsonl").read_text().splitlines()]
    assert (kinds[0], kinds[-1]) == ("appeared", "left")
    missed = 32 - len(kinds)
    assert missed > 0
    first, last = capfd.readouterr().err.splitlines()
    assert "No space left on device" in first
    assert last == f"slimcam-camera: lines: goes on; {missed} frames and {missed} events did not get there"


def test_lines_go_into_a_new_file_where_the_old_one_was_renamed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    output = Lines(str(path))
    output.show(view(events=(event("appeared"),)))
    path.rename(tmp_path / "events.jsonl.1")
    output.show(view(events=(event("left"),)))
    path.unlink()
    output.show(view(events=(event("appeared"), event("left"))))
    output.close()
    assert (tmp_path / "events.jsonl.1").read_text().count("\n") == 1
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["appeared", "left"]


def test_a_reader_that_goes_ends_the_camera_quietly() -> None:
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.deploy.camera.outputs.test_outputs import *
output, = open_outputs(OutputsConfig(lines="-"), 30)
try:
    while True:
        output.show(view(events=(event("left"),)))
except Stop:
    output.close()
    print("stopped", file=sys.stderr)
"""
    camera = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert camera.stdout is not None
    assert json.loads(camera.stdout.readline())["kind"] == "left"
    camera.stdout.close()
    assert camera.wait(30) == 0
    assert camera.stderr is not None
    assert camera.stderr.read() == "stopped\n"
    camera.stderr.close()


def test_lines_cannot_be_added_to_a_folder(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Lines(str(tmp_path))


# Video


def read_video(path: Path) -> tuple[list[np.ndarray], list[float], float]:
    """Its frames in RGB, their times in seconds and the frame rate."""
    video = cv2.VideoCapture(str(path))
    frames, seconds = [], []
    while (read := video.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
        seconds.append(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    fps = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return frames, seconds, fps


COLORS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200)], np.uint8)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4", ".MKV"])
def test_a_video_has_its_frames_colors_and_times(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    video = Video(str(path), 25)
    for i in range(20):
        video.show(view(i / 25, color=COLORS[i // 4]))
        assert not path.exists()
    video.close()
    video.close()
    assert list(tmp_path.iterdir()) == [path]
    frames, seconds, fps = read_video(path)
    assert (len(frames), fps) == (20, 25)
    np.testing.assert_allclose(seconds, np.arange(20) / 25, atol=2e-3)
    for i, frame in enumerate(frames):
        assert frame.shape == (96, 128, 3)
        np.testing.assert_allclose(frame.mean(axis=(0, 1)), COLORS[i // 4], atol=8)


def test_a_video_shows_the_faces(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    video = Video(str(path), 25)
    shown = view(size=(120, 160), sightings=(sighting(ADA),))
    video.show(shown)
    video.close()
    frame = read_video(path)[0][0].astype(int)
    green = (frame[..., 1] - frame[..., 0] > 60) & (frame[..., 1] > 150)
    assert green.sum() > 300


def test_uneven_frames_are_seen_at_their_time(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    times = (0.0, 0.11, 0.2, 0.62, 1.0)  # of five colors, at 10 a second
    video = Video(str(path), 10)
    for seconds, color in zip(times, COLORS, strict=True):
        video.show(view(5 + seconds, color=color))
    video.close()
    frames, seconds, _ = read_video(path)
    seen = [int(np.abs(frame.mean(axis=(0, 1)) - COLORS.astype(float)).sum(axis=1).argmin()) for frame in frames]
    assert seen == [0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4]
    np.testing.assert_allclose(seconds, np.arange(11) / 10, atol=2e-3)


@given(
    steps=st.lists(st.floats(0, 0.2), min_size=1, max_size=200),
    fps=st.floats(1, 120),
    start=st.floats(0, 1e5),
)
def test_the_file_never_runs_away_from_the_clock(steps: list[float], fps: float, start: float) -> None:
    pace = Pace(fps)
    clock = start
    assert pace.copies(clock) == 1
    for step in steps:
        clock += step
        assert pace.copies(clock) >= 0
        # The newest frame is at its place, or the one before was nearer to it.
        assert abs((pace.written - 1) / fps - (clock - start)) <= 0.5 / fps + 1e-6


def test_time_that_jumps_leaves_no_gap() -> None:
    pace = Pace(10)
    assert [pace.copies(seconds) for seconds in (0, 0.1, 0.1 + PAUSE + 1, 0.2 + PAUSE + 1, 0.0, 0.1)] == [1] * 6
    assert pace.copies(0.1 + PAUSE) == 20


def test_a_source_twice_as_fast_loses_every_other_frame() -> None:
    pace = Pace(30)
    assert sum(pace.copies(i / 60) for i in range(600)) in (300, 301)


def test_frames_of_another_size_are_fitted_into_the_first(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    video = Video(str(path), 10)
    video.show(view(0.0, color=COLORS[0], size=(97, 129)))
    video.show(view(0.1, color=COLORS[1], size=(240, 320)))
    video.close()
    frames = read_video(path)[0]
    assert [frame.shape for frame in frames] == [(96, 128, 3)] * 2
    np.testing.assert_allclose(frames[1][:90, :100].mean(axis=(0, 1)), COLORS[1], atol=8)


def test_a_video_without_frames_is_none(tmp_path: Path) -> None:
    Video(str(tmp_path / "out.mp4"), 30).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 90000])
def test_frame_rates_that_cannot_be_are_refused(fps: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frames a second"):
        Video(str(tmp_path / "out.mp4"), fps)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    first, second = Video(str(path), 30), Video(str(path), 30)  # the second as after a crash of the first
    first.show(view(color=COLORS[0]))
    second.show(view(color=COLORS[1]))
    first.close()
    with pytest.raises(FileExistsError, match=r"out\.mkv: there is such a file"):
        second.close()
    with pytest.raises(FileExistsError):
        Video(str(path), 30)
    assert {file.name for file in tmp_path.iterdir()} == {"out.mkv", "out.partial2.mkv"}
    np.testing.assert_allclose(read_video(path)[0][0].mean(axis=(0, 1)), COLORS[0], atol=8)
    np.testing.assert_allclose(read_video(tmp_path / "out.partial2.mkv")[0][0].mean(axis=(0, 1)), COLORS[1], atol=8)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_killed_camera_leaves_a_partial_video_that_plays(suffix: str, tmp_path: Path) -> None:
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.deploy.camera.outputs.test_outputs import *
video = Video({str(tmp_path / ("out" + suffix))!r}, 25)
noise = np.random.default_rng(0)
for i in range(100):
    video.show(view(i / 25, size=(240, 320), color=noise.integers(0, 255, (240, 320, 3), np.uint8)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    frames = read_video(tmp_path / f"out.partial{suffix}")[0]
    assert len(frames) > 80
    assert list(tmp_path.iterdir()) == [tmp_path / f"out.partial{suffix}"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    size = RESERVE + (1 << 20)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_the_video_and_not_the_camera(small_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = small_disk / "out.mp4"
    (output,) = open_outputs(OutputsConfig(video=str(path)), 25)
    noise = np.random.default_rng(0)
    for i in range(150):
        output.show(view(i / 25, size=(240, 320), color=noise.integers(0, 255, (240, 320, 3), np.uint8)))
    output.close()
    error = capfd.readouterr().err
    assert error.startswith("slimcam-camera: video: [Errno 28] the disk is full, 7 MiB are left: ")
    assert error.count("\n") == 2
    assert "frames and 0 events did not get there" in error
    assert 10 < len(read_video(path)[0]) < 150
    assert list(small_disk.iterdir()) == [path]


def test_a_video_that_could_not_be_written_is_not_called_one(tmp_path: Path) -> None:
    script = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.deploy.camera.outputs.test_outputs import *
video = Video({str(tmp_path / "out.mkv")!r}, 25)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
noise = np.random.default_rng(0)
for i in range(60):
    video.show(view(i / 25, size=(240, 320), color=noise.integers(0, 255, (240, 320, 3), np.uint8)))
Contained("video", lambda: video).close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "slimcam-camera: video: " in done.stderr
    assert "not all of the video could be written" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["out.partial.mkv"]


# Metrics


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    opened = Metrics(MetricsConfig(port=0))
    yield opened
    opened.close()


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_metrics_are_scraped(metrics: Metrics) -> None:
    empty = scrape(metrics.port)
    assert empty["slimcam_frames_total", ()] == 0
    assert np.isnan(empty["slimcam_frame_age_seconds", ()])
    faces = (sighting(ADA, 1), sighting(ADA, 2), sighting(STRANGER, 3), sighting(None, 4))
    metrics.show(view(sightings=faces, lost=3, events=(event("recognised", ADA),), milliseconds={"detect": 4.0}))
    metrics.show(
        view(
            sightings=faces[:2],
            lost=2,
            events=(event("recognised", ADA), event("left")),
            milliseconds={"detect": 6.0, "match": float("nan"), "other": 1.0},
        )
    )
    read = scrape(metrics.port)
    assert read["slimcam_frames_total", ()] == 2
    assert read["slimcam_frames_lost_total", ()] == 5
    kinds = {"appeared": 0, "recognised": 2, "unknown": 0, "left": 1}
    assert {kind: read["slimcam_events_total", (("kind", kind),)] for kind in kinds} == kinds
    assert (read["slimcam_faces", ()], read["slimcam_people", ()]) == (2, 1)
    assert 0 <= read["slimcam_frame_age_seconds", ()] < 60
    detect = ("stage", "detect")
    assert read["slimcam_stage_seconds_count", (detect,)] == 2
    assert read["slimcam_stage_seconds_sum", (detect,)] == pytest.approx(0.010)
    assert read["slimcam_stage_seconds_bucket", (("le", "0.005"), detect)] == 1
    assert read["slimcam_stage_seconds_bucket", (("le", "0.01"), detect)] == 2
    stages = {dict(labels)["stage"] for name, labels in read if name == "slimcam_stage_seconds_count"}
    assert stages == set(STAGES)
    assert read["slimcam_stage_seconds_count", (("stage", "match"),)] == 0


def test_the_frame_age_grows_while_the_camera_stands_still(metrics: Metrics) -> None:
    metrics.show(view())
    first = scrape(metrics.port)["slimcam_frame_age_seconds", ()]
    time.sleep(0.05)
    assert scrape(metrics.port)["slimcam_frame_age_seconds", ()] >= first + 0.05


def test_nobody_is_named_in_the_metrics(metrics: Metrics) -> None:
    before = scrape(metrics.port).keys()
    for name in ("Ada Lovelace", 'a"b\n{}', "\ud800"):
        identity = Identity(f"person of {name}", name, 0.9, 0.3)
        metrics.show(view(sightings=(sighting(identity),), events=(event("recognised", identity),)))
    assert scrape(metrics.port).keys() == before


def test_closing_frees_the_port(metrics: Metrics) -> None:
    other = Metrics(MetricsConfig(port=0))
    scrape(other.port)
    other.close()
    again = Metrics(MetricsConfig(port=other.port))
    again.close()
    with pytest.raises(OSError, match=rf"served at 127\.0\.0\.1 port {metrics.port}: Address already in use"):
        Metrics(MetricsConfig(port=metrics.port))


# Window


def test_without_a_display_or_windows_the_reason_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        with pytest.raises(RuntimeError, match="no display"):
            Window()
    if "GUI:                           NONE" not in cv2.getBuildInformation():
        pytest.skip("this OpenCV has windows")
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(RuntimeError, match="pip install opencv-python") as error:
        Window()
    assert "\n" not in str(error.value)


def test_a_source_of_many_frames_a_second_is_recorded_at_60() -> None:
    assert [video_rate(rate) for rate in (480.0, 1000.0, 60.0, 25.0)] == [60.0, 60.0, 60.0, 25.0]
