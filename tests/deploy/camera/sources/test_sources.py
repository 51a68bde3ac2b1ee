from __future__ import annotations

import base64
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimcam.deploy.camera.outputs.video import video_rate
from slimcam.deploy.camera.sources import Source, SourceConfig, SourceKind, open_source
from slimcam.deploy.camera.sources.live import Camera, LiveSource, pauses
from slimcam.deploy.camera.sources.source import StateLines, first_seconds
from slimcam.deploy.common.errors import SourceError
from slimcam.deploy.types import Frame
from slimcam.deploy.vision.image_files import Image

T = TypeVar("T")

HEIGHT, WIDTH = 48, 64
COUNT, FPS = 20, 10.0


def shade(number: int) -> int:
    """The grey of a frame of the test clip, apart enough to be told after compression."""
    return 10 + 12 * number


def write_clip(path: Path, code: str = "MJPG", height: int = HEIGHT, width: int = WIDTH, count: int = COUNT) -> Path:
    """A video whose frames tell their number: red of that shade, and a white mark top left."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), FPS, (width, height))
    assert writer.isOpened()
    for number in range(count):
        image = np.zeros((height, width, 3), np.uint8)
        image[..., 2] = shade(number)
        image[: height // 4, : width // 4] = 255
        writer.write(image)
    writer.release()
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.avi")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def number_of(frame: Frame) -> int:
    """Which frame of the clip it is."""
    return round((float(frame.image[HEIGHT // 2 :, WIDTH // 2 :, 0].mean()) - 10) / 12)


def tried(action: Callable[[], T]) -> tuple[T | None, str]:
    """What it gives, or what it says when it refuses."""
    try:
        return action(), ""
    except (ValueError, OSError) as error:
        return None, str(error)


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


# Files


@pytest.mark.parametrize(("name", "code"), [("clip.avi", "MJPG"), ("clip.mp4", "mp4v"), ("clip.mkv", "MJPG")])
def test_a_file_gives_every_frame_in_order_with_its_time(tmp_path: Path, name: str, code: str) -> None:
    with open_source(str(write_clip(tmp_path / name, code))) as source:
        assert not source.live
        assert source.fps == FPS
        assert source.state == "running"
        frames = list(source)
        assert source.state == "ended"
    assert [number_of(frame) for frame in frames] == list(range(COUNT))
    assert [frame.number for frame in frames] == list(range(COUNT))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(COUNT) / FPS, atol=2e-3)
    assert all(frame.lost == 0 for frame in frames)
    assert all(frame.image.shape == (HEIGHT, WIDTH, 3) and frame.image.dtype == np.uint8 for frame in frames)
    assert source.notes == []


def test_frames_are_rgb(clip: Path) -> None:
    *_, last = open_source(str(clip))
    red, green, blue = last.image[HEIGHT // 2 :, WIDTH // 2 :].mean(axis=(0, 1))
    assert red > 200
    assert max(green, blue) < 40


@pytest.mark.parametrize(("degrees", "corner"), [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_frames_are_rotated_clockwise(clip: Path, degrees: int, corner: tuple[int, int]) -> None:
    frame = next(iter(open_source(str(clip), SourceConfig(rotate=degrees))))
    assert frame.image.shape == ((HEIGHT, WIDTH, 3) if degrees % 180 == 0 else (WIDTH, HEIGHT, 3))
    bright = [(y, x) for y in (0, -1) for x in (0, -1) if frame.image[y, x].min() > 200]
    assert bright == [corner]


def test_a_looped_file_begins_anew_and_its_time_goes_on(clip: Path) -> None:
    with open_source(str(clip), SourceConfig(loop=True)) as source:
        frames = list(islice(source, 2 * COUNT + 5))
    assert [number_of(frame) for frame in frames] == [number % COUNT for number in range(2 * COUNT + 5)]
    assert [frame.number for frame in frames] == list(range(2 * COUNT + 5))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(2 * COUNT + 5) / FPS, atol=2e-3)


def test_closing_ends_the_iteration(clip: Path) -> None:
    source = open_source(str(clip), SourceConfig(loop=True))
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    assert source.state == "ended"


def test_a_file_is_never_taken_for_an_address_or_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:clip.avi", "clip%02d.avi", "concat:a|b.avi", "-i.avi", "who@where.avi"):
        write_clip(tmp_path / name, count=3)
        assert len(list(open_source(name))) == 3
        assert open_source(name).name == name


# Files whose headers tell what is not so

AV1 = zlib.decompress(
    base64.b85decode(
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})EQ*4@vr7)_Z%LfUFwJ*&ckt>KQO}iW!D|{9LU>{!"
        ">#~8okG{KmfIOj)!|B0mnwa$=T$$kAK*=T+);AE-7=jt74?ylYy}u>6cFGa0>l>T-og91{dVLbh(o8M&jLh{64Gh8^QTfG7CU_R_"
        "dBWXNJhR!ut+jNHs;^6DheIaBJdlr^EPw`PdEZ?JaW|9Z^+v|xqaDB3Ha{~i+O9vRkwIzeoaWNJl#WJ*w$`wC$1ua@Mn>hw%`L27"
        "A2K}X+|a17t5IQABUAFC35^Uq3|w3wQ`G<E)-)(U!-DZD!zdVj0F(n9+V{68dmQU2E?$s)pdtOlEZ4>Du71w`F0Mf??Py7{_;&Jv"
        "?qo#LN<Xm_S@jH{>SUm5W3Xz4oXn)e{9N6{GQ;!}i(D6XxP%5dhIsn>xwKC)Ft7q6JtG4sU|^7U-d1{Kf6G4aop+u$GAv%u$iUEm"
        "oD_}t1Q^aVFfcU$MV?+e<*;~qBSQ*<k)Q$d0iY1u51{Y?1_g$m0#HVtzQ1K7=NHl4{hJ#Zws!#wkdIBwdp<OB0su6W&uI"
    )
)
"""Two frames as a Matroska file in AV1: `ffmpeg -f lavfi -i color=s=32x32:r=10:d=0.2 -c:v libaom-av1`."""

UNEVEN = zlib.decompress(
    base64.b85decode(
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})EWZSOXO|q<-_jv(`_OlHckt>KQO}iW!D|{9LU>{!"
        ">#~8okG{KmfIOj)!|B0mni#7fT$$kAK*=VSdv747F$6PEAAsC*dVfps@%+nL*EcrvJ306^^!g;0rI}jl8JX)D8W@B-qVkKEOmIzH"
        "aIM;7hV*U+r9-^6V&N{G9S(bQ!RCQ{<j}mo<>IFgA?u*-F1g;wSbVg@N~t>FMAh62a~c_xw$5oT%}eQMWN7OTi}ww1bvM!X4EEP|"
        "3=U{+WK@3K+`{;0LFj|d4UG=F8VzPOG9@os&%nUA0carO)=ps{2{e{bf#FDR2g6q;7B&%QAa@hcnaMzB8iSn)3QUKl{Vf(w0UwKt"
        "7bG8ONIx;lb#c3^pR>P<YmiGjny-qlB_HTcMz}Kl!~$g1lTi#;$Sp`sH%ULS$aQgtOK6Z|h^N1wOZyZ911k_R*E2OXHUI+#26^Xg"
        "rB0FiTliDdRz7cJSiG;1fuRBD+RY3C>_BRpK=Q|K>3ZqhKe^jKZo9vqfnoVYRQ_=k{^BW(42mGnZwvVN`8`neJ)nwvAW>(qXka3$"
        "XbMCWO>HY!Gzd-Ya)>CJ+7n>WU^KNaA)=^i8M(otA*gB@bs(Z>YJI_?p=fIJA);t%CxAu6(9~{(h@z>z3>FPXQ~L!XimI0R1z0r0"
        ";OBQFQPw-y)Usc|rk3*vHnrS4u&L!;gH0{}0&Hppr(jbn+<~DMl)QfIZ&{gr_S5qw(Hc<HFksUP4FEK2paFoU78(F(YM}vutQJ&4"
        "P2b<LLelc;?*7e<4BNYaCF92?CZ-RKoB%)?^11"
    )
)
"""30 frames, 15 of them in half a second and 15 in 7.5 s; as a header tells it, 30 a second and 226 in all."""


@pytest.mark.parametrize(("told", "expected"), [(480, 480), (24, 24)])
def test_a_rate_that_is_told_truly_is_kept(tmp_path: Path, told: int, expected: int) -> None:
    path = tmp_path / "fast.mkv"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), told, (32, 32))
    for _ in range(70):
        writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.release()
    assert open_source(str(path)).fps == pytest.approx(expected, rel=0.1)
    assert video_rate(open_source(str(path)).fps) <= 60


def test_a_file_of_uneven_frames_is_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "uneven.mkv"
    path.write_bytes(UNEVEN)
    source = open_source(str(path))
    frames = list(source)
    assert (len(frames), source.notes, capfd.readouterr().err) == (30, [], "")
    assert frames[-1].seconds == pytest.approx(7.5, abs=0.1)


def test_a_decoder_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "av1.mkv"
    path.write_bytes(AV1)
    frames, refusal = tried(lambda: list(open_source(str(path))))
    # An OpenCV that has the decoder reads it.
    assert frames is None or len(frames) == 2
    if frames is None:
        assert "this OpenCV has no decoder for AV01" in refusal
        assert "\n" not in refusal


# Bad files


def test_a_file_that_is_cut_short_gives_what_it_has_and_a_note(
    clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.avi"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    source = open_source(str(cut))
    frames = list(source)
    assert [number_of(frame) for frame in frames] == list(range(len(frames)))
    assert 3 < len(frames) < COUNT
    length = len(frames) / FPS
    assert source.notes == [f"{cut}: it ends after {length:.1f} of {COUNT / FPS:.1f} s that its header tells"]
    list(source)
    assert capfd.readouterr().err.splitlines() == [f"source {source.notes[0]}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"hello, world\n" * 100, "no video or picture that OpenCV can read, or it is cut short"),
        (bytes(4000), "no video or picture that OpenCV can read, or it is cut short"),
        (b"\xff\xd8\xff\xe0", "not a JPEG, PNG, WebP or BMP picture"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x08\x02\0\0\0", "damaged or ends early"),
    ],
)
def test_files_that_are_no_videos_are_refused(
    tmp_path: Path, content: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        open_source(str(path))
    assert one_line(error).startswith(f"{path}: ")
    assert capfd.readouterr().err == ""


def test_an_mp4_without_its_end_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", "mp4v")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"clip\.mp4: no video or picture") as error:
        open_source(str(path))
    one_line(error)


@given(damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=40))
def test_a_damaged_file_gives_frames_or_one_line(
    clip: Path, tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    content = bytearray(clip.read_bytes())
    for place, value in damage:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("damaged") / "clip.avi"
    path.write_bytes(content)
    frames, refusal = tried(lambda: list(islice(open_source(str(path)), 2 * COUNT)))
    if frames is None:
        assert str(path) in refusal
        assert "\n" not in refusal
    else:
        assert frames
        assert all(later.seconds > earlier.seconds for earlier, later in pairwise(frames))


def test_a_video_of_senseless_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.avi", width=640, height=480, count=2)
    monkeypatch.setattr("slimcam.deploy.vision.image_files.LARGEST_PICTURE", 300_000)
    with pytest.raises(ValueError, match="a picture of 640x480 pixels") as error:
        open_source(str(path))
    one_line(error)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("gone.mp4", FileNotFoundError, "gone.mp4: there is no such file or folder"),
        ("", FileNotFoundError, "no source: there is no such file"),
        ("a\nb\x1b[31m\0.mp4", FileNotFoundError, r"a\?b\?\[31m\?\.mp4: there is no such file"),
        ("x" * 5000, FileNotFoundError, "there is no such file"),
        ("/dev/null", ValueError, "not a file or folder"),
        ("ftp://somebody:secret@host/a", ValueError, r"^ftp://host/a: streams are rtsp://"),
        ("rtsp:/somebody:secret@host/a", FileNotFoundError, r"^rtsp://host/a: there is no such"),
        ("somebody:secret@host/a", FileNotFoundError, r"^…: there is no such"),
    ],
)
def test_sources_that_are_not_there_are_named(source: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as error:
        open_source(source)
    one_line(error)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    # Root reads everything; a link to itself cannot be read by anybody.
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    with pytest.raises(OSError, match=r"loop\.mp4") as error:
        open_source(str(tmp_path / "loop.mp4"))
    one_line(error)


def test_a_missing_webcam_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/video97").exists():
        pytest.skip("there is a webcam 97")
    for source in (97, "97", "/dev/video97"):
        with pytest.raises(OSError, match=r"^webcam 97: there is none") as error:
            open_source(source)
        one_line(error)
    assert capfd.readouterr().err == ""


def test_a_missing_picamera_library_names_its_package() -> None:
    try:
        import picamera2  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="sudo apt install python3-picamera2") as error:
            open_source("picamera")
        one_line(error)
    else:
        pytest.skip("picamera2 is installed here")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": 45}, "rotated by 0, 90, 180 or 270 degrees; got 45"),
        ({"width": 640}, "both width and height, or neither; got 640x0"),
        ({"width": -1, "height": 4}, "got -1x4"),
        ({"width": 40000, "height": 4}, "to 32766"),
        ({"fps": -1.0}, "got 0x0 and -1"),
        ({"max_age": 0.0}, "max_age of a source"),
        ({"timeout": float("nan")}, "timeout of a source"),
        ({"reconnect_seconds": -2.0}, "reconnect_seconds of a source"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SourceConfig(**options)


# Pictures


def encoded(kind: str, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 200
    return bytes(cv2.imencode(kind, image)[1])


def png(width: int, height: int) -> bytes:
    """A PNG of that size in a few bytes: a bomb if it is large, for its pixels all are of one color."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes(min(height * ((width + 7) // 8 + 1), 2**24)), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_folder_gives_its_pictures_sorted_and_notes_what_it_skips(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, kind in (("b.png", ".png"), ("a.jpg", ".jpg"), ("d.webp", ".webp"), ("c.bmp", ".bmp")):
        (tmp_path / name).write_bytes(encoded(kind))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000))
    (tmp_path / ".hidden.png").write_bytes(encoded(".png"))
    (tmp_path / "folder").mkdir()
    with open_source(str(tmp_path), SourceConfig(fps=2.0)) as source:
        frames = list(source)
        assert not source.live
        assert source.state == "ended"
    assert [frame.seconds for frame in frames] == [0.0, 0.5, 1.0, 1.5]
    for frame in frames:
        np.testing.assert_allclose(frame.image.mean(axis=(0, 1)), (200, 0, 0), atol=3)
    assert source.notes == [
        f"skipped: {tmp_path}/bomb.png: a picture of 30000x30000 pixels; sides may have up to 32766 and the whole "
        "100 megapixels: shrink it",
        f"skipped: {tmp_path}/notes.txt: not a JPEG, PNG, WebP or BMP picture",
    ]
    assert capfd.readouterr().err.splitlines() == [f"source {note}" for note in source.notes]


def test_a_folder_without_a_readable_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file in this folder"):
        open_source(str(tmp_path))
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"no picture that can be read; skipped: .*notes\.txt") as error:
        list(open_source(str(tmp_path)))
    one_line(error)


def test_a_single_picture_is_a_source_of_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "face"  # what a file is, its content says
    path.write_bytes(encoded(".jpg"))
    assert len(list(open_source(str(path)))) == 1
    assert len(list(islice(open_source(str(path), SourceConfig(loop=True)), 7))) == 7


# Live


def test_a_file_in_real_time_takes_as_long_as_the_clip(clip: Path) -> None:
    begin = time.monotonic()
    with open_source(str(clip), SourceConfig(realtime=True)) as source:
        assert source.live
        frames = list(source)
        assert source.state == "ended"
        assert isinstance(source, LiveSource)
        assert source.read_latest() is None
    took = time.monotonic() - begin
    assert COUNT / FPS - 0.15 < took < COUNT / FPS + 3.0
    assert [number_of(frame) for frame in frames] == [frame.number for frame in frames]
    assert sum(frame.lost + 1 for frame in frames) == frames[-1].number + 1


def test_who_is_slow_gets_the_newest_frame_and_is_told_what_was_lost(clip: Path) -> None:
    with open_source(str(clip), SourceConfig(realtime=True, loop=True)) as source:
        frames = []
        for frame in islice(source, 4):
            assert time.monotonic() - frame.captured < 1.0
            frames.append(frame)
            time.sleep(0.45)
    assert all(later.lost == later.number - earlier.number - 1 for earlier, later in pairwise(frames))
    assert sum(frame.lost for frame in frames) >= 6
    assert all(number_of(frame) == frame.number % COUNT for frame in frames)


class Steps:
    """A camera that gives a frame when it is told to, and breaks off when it is told to."""

    fps = 30.0

    def __init__(self) -> None:
        self.frames = threading.Semaphore(0)
        self.broken, self.closed = threading.Event(), threading.Event()
        self.given = 0

    def read(self) -> Image | None:
        while not self.broken.is_set() and not self.closed.is_set():
            if self.frames.acquire(timeout=0.01):
                self.given += 1
                return np.full((4, 4, 3), self.given, np.uint8)
        return None

    def close(self) -> None:
        self.closed.set()


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not true() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert true()


@pytest.fixture
def steps() -> Iterator[tuple[Camera, Steps]]:
    camera = Steps()
    source = Camera("it", OSError, SourceConfig(max_age=0.2), camera)  # type: ignore[arg-type]
    yield source, camera
    camera.broken.set()
    source.close()


def test_a_frame_is_handed_out_once(steps: tuple[Camera, Steps]) -> None:
    source, camera = steps
    camera.frames.release()
    frame = source.read_latest(timeout=5.0)
    assert frame is not None
    assert frame.number == 0
    begin = time.monotonic()
    assert source.read_latest(timeout=0.1) is None
    assert time.monotonic() - begin >= 0.1
    assert source.state == "running"


def test_a_frame_that_is_too_old_is_never_handed_out_and_counts_as_lost(steps: tuple[Camera, Steps]) -> None:
    source, camera = steps
    camera.frames.release()
    wait_for(lambda: camera.given == 1)
    time.sleep(0.3)
    assert source.read_latest(timeout=0.05) is None
    camera.frames.release()
    frame = source.read_latest(timeout=5.0)
    assert frame is not None
    assert (frame.number, frame.lost, int(frame.image[0, 0, 0])) == (1, 1, 2)
    camera.frames.release()
    wait_for(lambda: camera.given == 3)
    time.sleep(0.3)
    assert source.read_latest(max_age=60.0, timeout=0.05) is not None


def test_closing_wakes_who_waits(steps: tuple[Camera, Steps]) -> None:
    source, camera = steps
    closing = threading.Timer(0.1, source.close)
    closing.start()
    begin = time.monotonic()
    assert list(source) == []
    assert time.monotonic() - begin < 1.5  # though the camera holds its reader up
    camera.frames.release()
    source.close()
    closing.join()
    assert source.state == "ended"
    wait_for(camera.closed.is_set)


def test_a_camera_that_breaks_off_is_opened_again(capfd: pytest.CaptureFixture[str]) -> None:
    first, second = Steps(), Steps()
    attempts = iter([OSError("it: not there"), ValueError("it: not yet"), second])

    def connect() -> Steps:
        answer = next(attempts)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Camera("it", connect, SourceConfig(reconnect_seconds=0.02), first) as source:
        assert isinstance(source, Camera)
        first.frames.release()
        assert source.read_latest(timeout=5.0) is not None
        first.broken.set()
        wait_for(lambda: source.state == "reconnecting")
        assert first.closed.is_set()
        second.frames.release()
        frame = source.read_latest(timeout=5.0)
        assert frame is not None
        assert (frame.number, source.state) == (1, "running")
        second.broken.set()
    assert capfd.readouterr().err.splitlines() == [
        "source it: the stream broke off; trying again until it is there",
        "source it: back",
    ]


def test_what_ends_the_reader_unexpectedly_reaches_who_waits() -> None:
    def connect() -> Steps:
        raise ZeroDivisionError("of a driver")

    with Camera("it", connect, SourceConfig()) as source, pytest.raises(ZeroDivisionError):
        list(source)


def test_pauses_double_up_to_the_longest() -> None:
    assert list(islice(pauses(2.0), 6)) == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert list(islice(pauses(0.1), 3)) == [0.1, 0.1, 0.1]


def test_a_motion_jpeg_stream_over_http_is_read_until_it_is_closed() -> None:
    with (
        serving(partial(Stream, encoded(".jpg"))) as port,
        open_source(f"http://somebody:secret@127.0.0.1:{port}/video?token=secret") as source,
    ):
        assert source.live
        assert isinstance(source, LiveSource)
        frame = source.read_latest(timeout=20.0)
        assert frame is not None
        np.testing.assert_allclose(frame.image.mean(axis=(0, 1)), (200, 0, 0), atol=3)
        assert repr(source) == f"<Camera http://127.0.0.1:{port}/video?…, running>"


class Numbered(BaseHTTPRequestHandler):
    """A camera that sends one picture for each request, or a video file; with a password, if there is one."""

    content_type, password, requests = "image/jpeg", "", 0
    content = b""

    def do_GET(self) -> None:
        kind = type(self)
        expected = "Basic " + base64.b64encode(f"somebody:{self.password}".encode()).decode()
        if self.password and self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        kind.requests += 1
        self.send_response(200)
        self.send_header("Content-Type", self.content_type)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None: ...


def test_a_snapshot_url_is_polled_and_said_to_be_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    class Still(Numbered):
        content, password = encoded(".jpg"), "secret"

    with serving(Still) as port:
        url = f"http://somebody:secret@127.0.0.1:{port}/snap.jpg?token=secret"
        with open_source(url, SourceConfig(fps=10)) as source:
            assert source.kind is SourceKind.live
            begin, frames = time.monotonic(), []
            while len(frames) < 8:
                frame = source.read_latest(timeout=5.0)  # type: ignore[attr-defined]
                assert frame is not None
                frames.append(frame)
            assert 0.5 < time.monotonic() - begin < 5
            assert source.fps == 10
            assert source.state == "running"
        assert [frame.number for frame in frames] == list(range(8))
    assert capfd.readouterr().err == ""
    with serving(Still) as port, open_source(f"http://somebody:wrong@127.0.0.1:{port}/snap.jpg") as source:
        wait_for(lambda: source.state == "reconnecting")
    assert "the server answers 401" in capfd.readouterr().err


def test_a_file_over_http_is_played_once_and_ends(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Remote(Numbered):
        content, content_type = clip.read_bytes(), "video/x-msvideo"

    with serving(Remote) as port, open_source(f"http://127.0.0.1:{port}/clip.avi") as source:
        begin = time.monotonic()
        frames = list(source)
        assert time.monotonic() - begin > 0.8 * COUNT / FPS  # as fast as it was taken, not as fast as the network
        assert source.state == "ended"
    assert frames
    assert capfd.readouterr().err == ""


def test_a_source_that_comes_and_goes_is_told_of_once_a_minute_with_a_count() -> None:
    now, said = 0.0, list[str]()
    lines = StateLines(said.append, lambda: now)
    for moment in range(130):
        now = float(moment)
        lines.look()
        lines.change("back" if moment % 2 else "broke off")
    assert said[:2] == ["broke off", "back"]
    assert len(said) == 4
    assert said[2] == "back (58 changes in the last 60 s)"
    now += 100
    lines.look()
    assert said[4].startswith("back (")


def test_a_stream_that_stops_ends_what_waits_for_its_first_seconds() -> None:
    class Stopping(Stream):
        def do_GET(self) -> None:
            self.times = 8
            super().do_GET()

    with serving(partial(Stopping, encoded(".jpg"))) as port:
        begin = time.monotonic()
        with open_source(f"http://127.0.0.1:{port}/video", SourceConfig(timeout=2.0)) as source:
            frames = list(first_seconds(source, 2.0))
        assert frames
        assert time.monotonic() - begin < 10
    with (
        open_source("http://127.0.0.1:9/live", SourceConfig(timeout=0.5)) as source,
        pytest.raises(SourceError, match="no picture came within 1 s"),
    ):
        list(first_seconds(source, 2.0))


class Stream(BaseHTTPRequestHandler):
    """Sends the same JPEG ten times a second, as many webcams on a network do."""

    def __init__(self, picture: bytes, *arguments: Any) -> None:
        self.picture, self.times = picture, -1
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        try:
            while self.times:
                self.times -= 1
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(self.picture)}\r\n\r\n"
                self.wfile.write(head.encode() + self.picture + b"\r\n")
                time.sleep(0.1)
            time.sleep(3.0)  # open, and silent
        except OSError:
            return

    def log_message(self, *_: Any) -> None: ...


class serving:  # noqa: N801  # used as a function
    """A server on a port of its own."""

    def __init__(self, handler: Any) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = False  # so that closing waits for them
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self) -> int:
        self.thread.start()
        return self.server.server_port

    def __exit__(self, *_: Any) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


# Credentials

MARK_BEGIN, MARK_END = "Zq", "qZ"
secrets = st.text(max_size=12).map(lambda text: f"{MARK_BEGIN}{text}{MARK_END}")
mistyped = st.one_of(
    st.builds("rtps:/a:{}@camera.local/live".format, secrets),
    st.builds("a:{}@camera.local/live".format, secrets),
    st.builds("ftp://a:{}@[::1]:21/live".format, secrets),
)


def leaks(text: str) -> bool:
    return MARK_BEGIN in text or MARK_END in text


@given(mistyped)
def test_errors_show_no_secrets(address: str) -> None:
    with pytest.raises((ValueError, OSError)) as error:
        open_source(address)
    assert not leaks(f"{error.value} {error.value!r}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://a:Zq@127.0.0.1:9/qZ/Zq@x",
        "rtsp://a:ZqqZ@127.0.0.1:9/live?key=Zq",
        "http://127.0.0.1:9/live?key=ZqqZ",
        "https://ZqqZ@127.0.0.1:9/live",
    ],
)
def test_a_stream_that_is_not_reached_shows_no_secrets(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    source = open_source(address, SourceConfig(timeout=1.0))
    wait_for(lambda: source.state == "reconnecting")
    told = f"{source} {source!r} {source.name} {[thread.name for thread in threading.enumerate()]}"
    source.close()
    lines = capfd.readouterr().err
    assert lines.count("\n") == 1
    assert "not reached" in lines
    assert not leaks(lines + told)


def test_sources_are_sources(clip: Path) -> None:
    with open_source(str(clip)) as source:
        assert isinstance(source, Source)
        assert repr(source) == f"<VideoFile {clip}, running>"
