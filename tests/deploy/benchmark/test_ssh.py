"""The ssh target against a real sshd on this machine, with connections that are cut on the way."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import psutil
import pytest

from slimcam.deploy.benchmark.ssh import SshConfig, measure_over_ssh
from slimcam.deploy.benchmark.wheel import NAME, requirements_of
from slimcam.deploy.inference.bundle import Bundle

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="needs ssh and sshd (Debian: openssh-client, openssh-server)"
)


class Line:
    """A TCP line to the sshd that can be cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.up = True
        # Cut once when this many bytes have gone to the board.
        self.cut_after: int | None = None
        self.sent = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        for pair in self._pairs:
            for end in pair:
                # The thread that passes its bytes on may close it at any time.
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def _serve(self) -> None:
        while True:
            client, _ = self._server.accept()
            if not self.up:
                client.close()
                continue
            board = socket.create_connection(("127.0.0.1", self._to))
            self._pairs.append((client, board))
            threading.Thread(target=self._pass, args=(client, board, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(board, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, towards_board: bool) -> None:
        try:
            while data := source.recv(16384):
                sink.sendall(data)
                if towards_board:
                    self.sent += len(data)
                    if self.cut_after is not None and self.sent > self.cut_after:
                        self.cut_after = None
                        self.cut()
        except OSError:
            pass
        for end in (source, sink):
            end.close()


@dataclass
class Board:
    """This machine, as a board that has slimcam's requirements in its system and no network."""

    line: Line
    folder: Path
    ssh_config: Path
    config: SshConfig = field(default_factory=SshConfig)

    @property
    def jobs(self) -> list[Path]:
        return list((self.folder / "jobs").glob("*"))


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    root = tmp_path_factory.mktemp("board")
    site = root / "site"
    install_requirements(site)
    with running_sshd(root, {"PYTHONPATH": str(site), "PIP_NO_INDEX": "1"}) as made:
        yield made


@pytest.fixture
def model(tmp_path: Path, int8_model: bytes) -> Path:
    path = tmp_path / "it's slim.tflite"
    path.write_bytes(int8_model)
    return path


class running_sshd:  # noqa: N801
    """An sshd for this user on a free port of the loopback interface, and a line to it."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self._root, self._environment = root, environment

    def __enter__(self) -> Board:
        root = self._root
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / key], check=True)
        port = free_port()
        (root / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {root}/host\nAuthorizedKeysFile {root}/user.pub\n"
            "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n"
            + "SetEnv "
            + " ".join(f"{name}={value}" for name, value in self._environment.items())
            + "\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        assert SSHD
        self._daemon = subprocess.Popen([SSHD, "-f", root / "sshd_config", "-D", "-E", root / "sshd.log"])
        wait_for(lambda: answers(port), 30)
        line = Line(port)
        (root / "ssh_config").write_text(
            f"Host board\n  HostName 127.0.0.1\n  Port {line.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {root}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {root}/known\n"
            "  StrictHostKeyChecking accept-new\n"
        )
        folder = root / "home of slimcam"
        config = SshConfig(
            host="board",
            ssh_config=str(root / "ssh_config"),
            folder=str(folder),
            python=sys.executable,
            warmup=1,
            samples=20,
            seconds=0.1,
        )
        return Board(line, folder, root / "ssh_config", config)

    def __exit__(self, *_: object) -> None:
        self._daemon.terminate()
        self._daemon.wait()


def install_requirements(site: Path) -> None:
    """Makes the packages that slimcam requires importable from `site`, as links to those of this environment."""
    site.mkdir()
    pending, seen = requirements_of(NAME), set()
    while pending:
        name = re.match(r"[\w.-]+", pending.pop())[0].lower()  # type: ignore[index]
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        pending += [line for line in distribution.requires or () if "extra ==" not in line]
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def log_of(board: Board) -> str:
    return "".join(path.read_text() for job in board.jobs for path in job.glob("log"))


def test_a_file_and_a_bundle_are_measured_on_the_board(
    board: Board, model: Path, make_bundle: Callable[..., Bundle], capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle()
    models = {"slim": model, "tiny": bundle.path}
    records = measure_over_ssh(models, replace(board.config, threads=[1, 2]))
    assert [(record.model.name, record.execution.threads) for record in records] == [
        ("slim", 1),
        ("tiny", 1),
        ("slim", 2),
        ("tiny", 2),
    ]
    for record in records:
        assert record.target == "ssh board"
        assert record.samples >= 20
        assert record.model.sha256 == bundle.sha256
        assert record.execution.delegate == "XNNPACK"
        assert record.version.startswith(f"{importlib.metadata.version(NAME)}+")
    said = capfd.readouterr().err
    assert "board: making a virtual environment (once)" in said
    assert "board: start-up of tiny" in said
    assert board.jobs == []
    board.line.sent = 0
    measure_over_ssh(models, board.config)
    assert "virtual environment" not in capfd.readouterr().err
    assert board.line.sent < next(board.folder.glob("*.whl")).stat().st_size


def test_a_connection_that_drops_while_measuring_is_made_again(
    board: Board, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = []
    config = replace(board.config, seconds=4.0)
    thread = threading.Thread(target=lambda: result.extend(measure_over_ssh({"slim": model}, config)))
    thread.start()
    wait_for(lambda: "start-up of slim" in log_of(board), 120)
    board.line.cut()
    thread.join()
    assert result[0].seconds >= 4.0
    said = capfd.readouterr().err
    assert said.count("the connection was lost") == 1
    assert said.count("start-up of slim") == 1


def test_a_copy_that_is_cut_off_goes_on_where_it_was(
    board: Board, tmp_path: Path, int8_model: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    big = tmp_path / "big.tflite"
    # What follows a flatbuffer is not read.
    big.write_bytes(int8_model + os.urandom(6_000_000))
    board.line.sent, board.line.cut_after = 0, 4_000_000
    (record,) = measure_over_ssh({"big": big}, board.config)
    assert record.model.size_bytes == big.stat().st_size
    assert "the connection was lost" in capfd.readouterr().err
    assert board.line.sent < 9_000_000


def test_a_measurement_that_was_left_behind_is_picked_up(board: Board, model: Path) -> None:
    config = replace(board.config, seconds=5.0, patience=1.0)
    lines = []

    def lose() -> None:
        wait_for(lambda: "start-up of slim" in log_of(board), 120)
        board.line.up = False
        board.line.cut()

    thread = threading.Thread(target=lose)
    thread.start()
    with pytest.raises(OSError, match=r"did not come back within 1 s; .* the same command picks it up") as error:
        measure_over_ssh({"slim": model}, config)
    thread.join()
    lines = str(error.value).splitlines()
    assert len(lines) == 1
    wait_for(lambda: [job for job in board.jobs if (job / "result.json").exists()], 120)
    ended = datetime.now(timezone.utc)
    board.line.up = True
    (record,) = measure_over_ssh({"slim": model}, config)
    assert datetime.fromisoformat(record.time_utc) <= ended
    assert board.jobs == []


def test_a_measurement_that_is_killed_on_the_board_is_an_error(board: Board, model: Path) -> None:
    def kill() -> None:
        wait_for(lambda: "start-up of slim" in log_of(board), 120)
        job = board.jobs[0].name
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if any(job in part for part in command) and ("work" in command or "measure" in command):
                process.send_signal(signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(RuntimeError, match="board: the measurement was killed there"):
        measure_over_ssh({"slim": model}, replace(board.config, seconds=20.0))
    thread.join()
    assert board.jobs == []


def test_a_damaged_model_is_an_error_in_one_line(board: Board, tmp_path: Path, int8_model: bytes) -> None:
    (tmp_path / "cut.tflite").write_bytes(int8_model[:1000])
    with pytest.raises(RuntimeError, match=r"^board: files/\w+/cut\.tflite: not a whole TFLite model") as error:
        measure_over_ssh({"cut": tmp_path / "cut.tflite"}, board.config)
    assert "\n" not in str(error.value)


def test_a_bundle_that_computes_something_else_on_the_board_is_refused(
    board: Board, make_bundle: Callable[..., Bundle]
) -> None:
    bundle = make_bundle(golden_output=np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32))
    with pytest.raises(RuntimeError, match="gives another output on this device"):
        measure_over_ssh({"tiny": bundle.path}, board.config)


def test_a_board_without_a_network_says_what_it_lacks(tmp_path: Path, model: Path) -> None:
    with (
        running_sshd(tmp_path, {"PIP_NO_INDEX": "1"}) as bare,
        pytest.raises(RuntimeError, match=r"No matching distribution found for .* give target\.wheels"),
    ):
        measure_over_ssh({"slim": model}, bare.config)


def test_mistakes_are_one_line(board: Board, model: Path, tmp_path: Path) -> None:
    def failure(**changes: object) -> str:
        with pytest.raises((OSError, ValueError, RuntimeError)) as error:
            measure_over_ssh({"slim": model}, replace(board.config, **changes))  # type: ignore[arg-type]
        return str(error.value)

    assert failure(host="") == "which board? give target.host=USER@ADDRESS or a name of your ssh configuration"
    assert failure(host="-oProxyCommand=x").startswith("target.host is USER@ADDRESS or a name")
    assert failure(python="python9") == (
        "board: there is no python9; install Python 3.10 to 3.13, or name it with target.python=..."
    )
    assert failure(wheels=str(tmp_path / "none")).endswith("none: there are no .whl files in it")
    board.line.up = False
    try:
        assert failure().startswith("board: ssh cannot connect (")
    finally:
        board.line.up = True
    with pytest.raises(FileNotFoundError, match="gone"):
        measure_over_ssh({"gone": tmp_path / "gone.tflite"}, board.config)


def test_a_python_that_is_too_old_is_named(board: Board, model: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.7"
    version = "import sys; sys.version_info = (3, 7, 3)"
    # A Python that says that it is another one, before it does what it is told.
    old.write_text(f'#!/bin/sh\nshift\ncode=$1\nshift\nexec {sys.executable} -c "{version}\n$code" "$@"\n')
    old.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"its Python is 3\.7, slimcam needs 3\.10 to 3\.13"):
        measure_over_ssh({"slim": model}, replace(board.config, python=str(old)))
