"""A real RTSP server that dies, hangs and comes back.

`python -m tests.deploy.camera.sources.test_rtsp 20` measures how soon frames are back after a restart.
"""

from __future__ import annotations

import signal
import socket
import statistics
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slimcam.deploy.camera.sources import Source, SourceConfig, open_source
from slimcam.deploy.camera.sources.live import LiveSource

SERVER = Path(__file__).with_name("small_rtsp_server.py")
PASSWORD = "Zq-secret-qZ"
CONFIG = SourceConfig(timeout=3.0)


class Server:
    """GStreamer's RTSP server on a port of its own, started and killed at will."""

    def __init__(self, picture: Path | None = None) -> None:
        self.picture = picture
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"rtsp://somebody:{PASSWORD}@127.0.0.1:{self.port}/live"
        self.shown = f"rtsp://127.0.0.1:{self.port}/live"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["/usr/bin/python3", str(SERVER), str(self.port), *([str(self.picture)] if self.picture else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        if self.process.stdout.readline() != "ready\n":
            line = self.process.stderr.read().strip().rpartition("\n")[2]
            pytest.skip(f"no RTSP server: {line}; apt install {PACKAGES}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


PACKAGES = "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"


@pytest.fixture
def server() -> Iterator[Server]:
    if not Path("/usr/bin/python3").exists():
        pytest.skip(f"no RTSP server: there is no /usr/bin/python3; apt install {PACKAGES}")
    server = Server()
    server.start()
    yield server
    server.kill()


def latest(source: Source, timeout: float) -> bool:
    assert isinstance(source, LiveSource)
    return source.read_latest(timeout=timeout) is not None


def seconds_until_back(source: Source, server: Server) -> float:
    """Kills the server of a running source and starts it again 3 s later: seconds from then until there is a frame."""
    server.kill()
    while latest(source, 0.5):
        pass
    time.sleep(3.0)
    begin = time.monotonic()
    server.start()
    assert latest(source, 30.0)
    return time.monotonic() - begin


def test_frames_of_a_server_that_is_killed_and_restarted_are_back_within_5_seconds(
    server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_source(server.url, CONFIG) as source:
        assert source.live
        assert latest(source, 20.0)
        assert source.state == "running"
        assert source.fps == pytest.approx(15, abs=1)
        took = seconds_until_back(source, server)
        assert source.state == "running"
    assert took <= 5.0
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        f"source {server.shown}: the stream broke off; trying again until it is there",
        f"source {server.shown}: back",
    ]


def test_a_slow_reader_gets_the_newest_frame_and_knows_what_it_lost(server: Server) -> None:
    with open_source(server.url, CONFIG) as source:
        assert isinstance(source, LiveSource)
        first = source.read_latest(timeout=20.0)
        assert first is not None
        time.sleep(1.0)
        frame = source.read_latest(timeout=5.0)
        assert frame is not None
        assert time.monotonic() - frame.captured < 0.5
        assert frame.lost == frame.number - first.number - 1
        assert frame.lost >= 5
        assert frame.image.shape == (240, 320, 3)


def test_a_server_that_hangs_is_noticed_and_closing_does_not_wait_for_it(server: Server) -> None:
    with open_source(server.url, SourceConfig(timeout=1.5)) as source:
        assert latest(source, 20.0)
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 8.0
        while source.state == "running" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert source.state == "reconnecting"
        begin = time.monotonic()
    assert time.monotonic() - begin < 3.0


def test_a_process_ends_while_its_reader_is_held_up(server: Server) -> None:
    program = f"""
        import os, signal, time
        from slimcam.deploy.camera.sources import SourceConfig, open_source
        with open_source({server.url!r}, SourceConfig(timeout=60.0)) as source:
            assert source.read_latest(timeout=20.0) is not None
            os.kill({server.process.pid if server.process else 0}, signal.SIGSTOP)
            time.sleep(0.5)
        print("closed", time.monotonic(), flush=True)
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    ended = time.monotonic()
    assert (child.returncode, child.stderr) == (0, "")
    word, closed = child.stdout.split()
    assert word == "closed"
    assert ended - float(closed) < 5.0


def test_a_stream_that_is_not_there_yet_is_waited_for(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    server.kill()
    with open_source(server.url, CONFIG) as source:
        assert not latest(source, 1.5)
        assert source.state == "reconnecting"
        server.start()
        assert latest(source, 10.0)
        assert PASSWORD not in repr(source)
        assert all(PASSWORD not in thread.name for thread in threading.enumerate())
    lines = capfd.readouterr().err.splitlines()
    assert [line.startswith(f"source {server.shown}: ") for line in lines] == [True, True]
    assert "not reached" in lines[0]
    assert PASSWORD not in "".join(lines)


def main(times: int) -> None:
    server = Server()
    server.start()
    with open_source(server.url) as source:
        assert latest(source, 30.0)
        took = [seconds_until_back(source, server) for _ in range(times)]
    server.kill()
    print(f"seconds from a server's restart to a frame, {times} times, server's own start included:")
    print(f"p50 {statistics.median(took):.2f}, least {min(took):.2f}, most {max(took):.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
